// Package credentials is how the agent reaches the API server, and what it shows to those
// that reach the agent: the client certificate, which is requested with a bootstrap token
// and renewed in time, the serving certificate, and the API clients.
//
//	bootstrap kubeconfig ─▶ CSR ─▶ pki/kubelet-client-current.pem ─▶ API clients
//	                                └─ renewed at 70 to 90 % of its life
//	serverTLSBootstrap ─▶ CSR ─▶ pki/kubelet-server-current.pem ─▶ port 10250
//
// A renewed client certificate is used by every request that starts after the renewal;
// requests in progress, above all watches, end in their own time on the connection that
// they started with.
package credentials

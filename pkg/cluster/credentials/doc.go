// Package credentials is how the agent reaches the API server and what it shows
// to those that reach it: the client certificate that is requested by a bootstrap
// token and renewed in time, the serving certificate, and the API clients.
//
//	bootstrap kubeconfig ─▶ CSR ─▶ pki/kubelet-client-current.pem ─▶ API clients
//	                                └─ renewed at 70 to 90 % of its life
//	serverTLSBootstrap ─▶ CSR ─▶ pki/kubelet-server-current.pem ─▶ port 10250
//
// A renewed client certificate is used by every request that begins after it; what
// runs on, watches above all, ends in its own time on the connection it began with.
package credentials

package server

import (
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// adviceAlone is what those read who have a good certificate on a node that has nobody to ask
// what they may do.
const adviceAlone = "This node has no API server to ask what a client may do (authorization.mode: Webhook, the default), so it allows nothing. " +
	"authorization.mode: AlwaysAllow in the node's configuration allows everything to clients whose certificate is signed by authentication.x509.clientCAFile."

// Alone is what becomes of the kubelet API's port on a node without an API server.
type Alone struct {
	Serve bool
	// Say is what the operator should hear about it, "" for nothing; Alarm, that it is a danger.
	Say   string
	Alarm bool
}

// StandAlone decides it. The kubelet refuses to start with its own defaults there, which ask an
// API server who a client is and what he may do. Here the port is served once somebody
// could come in at all, so that a node with the defaults listens on nothing that it would only
// turn away from; and what cannot be asked is not allowed.
func StandAlone(cfg AuthConfig) Alone {
	ca := cfg.Authentication.X509.ClientCAFile != ""
	anonymous := cfg.Authentication.Anonymous.Enabled != nil && *cfg.Authentication.Anonymous.Enabled
	everything := cfg.Authorization.Mode == kubeletconfig.KubeletAuthorizationModeAlwaysAllow
	switch {
	case !ca && !anonymous:
		return Alone{Say: "The kubelet API is not served on the network: without an API server, clients are known by certificates alone. " +
			"authentication.x509.clientCAFile with authorization.mode: AlwaysAllow serves it; root of this machine uses the socket"}
	case anonymous && everything:
		return Alone{Serve: true, Alarm: true, Say: "ANYBODY who reaches the kubelet API's port can run commands as root in every container of this node: " +
			"authentication.anonymous.enabled is true and authorization.mode is AlwaysAllow. Set one of them back"}
	case !everything:
		return Alone{Serve: true, Say: "The kubelet API is served and allows nothing: without an API server nobody can be asked what a client may do. " +
			"authorization.mode: AlwaysAllow allows everything to clients with a certificate of authentication.x509.clientCAFile"}
	}
	return Alone{Serve: true}
}

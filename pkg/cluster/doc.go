// Package cluster is the wing for what a node does because it has an API server. It has no
// code of its own; its rooms are:
//
//	credentials  how the API server is reached: bootstrap, certificates, clients
//	nodeobject   the Node object: registration, lease, status
//	podobjects   what pods refer to: ConfigMaps, Secrets, tokens, services, claims
//	mirror       a mirror pod for each static pod
//
// Pods come in by package source; statuses go out by lifecycle/podstatus, Events by
// journal/apievents.
package cluster

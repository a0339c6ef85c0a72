// Package keyring finds the credentials by which an image may be pulled, best first:
//
//	imagePullSecrets of the pod ─▶ the node's Docker configuration ─▶ credential providers
//	                                (config.json, .dockercfg)          (package provider)
//
// Package image asks once for each pull, and tries the credentials one after the
// other. Each carries its source, since an image that was pulled with one pod's
// Secret must not be open to a pod without it (package record).
package keyring

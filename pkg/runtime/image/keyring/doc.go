// Package keyring finds the credentials by which an image may be pulled, best first:
//
//	imagePullSecrets of the pod ─▶ the node's Docker configuration ─▶ credential providers
//	                                (config.json, .dockercfg)          (package provider)
//
// Package image asks, once a pull, and tries them one after the other. Each is
// told apart by where it is from, since what one pod's Secret has opened must not
// be open to a pod without it (package record).
package keyring

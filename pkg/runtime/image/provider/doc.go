// Package provider asks the operator's credential provider plug-ins for credentials
// (--image-credential-provider-config and -bin-dir): programs that get a
// CredentialProviderRequest on standard input and answer on standard output.
//
//	image ─ matchImages? ─ cached? ─ one call at a time for the same ─▶ plug-in
//
// It is one of the rings of package keyring. A failing plug-in is logged by its
// name, and the pull is tried without it, as in the kubelet.
package provider

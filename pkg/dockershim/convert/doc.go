// Package convert translates between CRI and Docker, and checks what clients send:
//
//	CheckSandbox, CheckContainer …   every field of a request, before anything is done
//	Platform.Sandbox, .Container     configuration ─▶ docker.ContainerSpec
//	SandboxStatus, ContainerStatus   docker's inspection or list ─▶ CRI's status
//	NetworkSandbox, Checkpoint       configuration ─▶ what the network and the disk need
//
// Conversions change nothing and ask Docker nothing. Platform tells them what they must know
// of the daemon and the machine; through its functions they look at the sources of mounts and
// read seccomp profiles. Errors are refusals of package grpccode, worded for the client.
package convert

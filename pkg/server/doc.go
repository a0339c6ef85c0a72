// Package server answers HTTP: the health endpoint and the read-only port. The
// agent builds one Server and runs it for its own life.
//
//	127.0.0.1:10248  /healthz /healthz/{check}
//	127.0.0.1:10255  /healthz /healthz/{check} /pods /metrics
//
// Each port is an endpoint: an address and a handler; a port with TLS and
// authentication is one more. Requests only read, are bounded in number and time,
// and never wait for a pod or the container runtime.
package server

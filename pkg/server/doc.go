// Package server answers HTTP: the health endpoint, the read-only port and the kubelet
// API. The agent builds one Server and runs it as long as it lives.
//
//	127.0.0.1:10248  /healthz /healthz/{check}
//	127.0.0.1:10255  /healthz /healthz/{check} /pods /metrics
//	:10250           those, and /exec /attach /portForward /run /containerLogs /logs
//	                 /runningpods /stats/summary /metrics/* /configz /debug/pprof
//	                 /mini-kubelet/{events,journal,decisions,teach}
//	agent.sock       the same for root of this machine, without certificates, and /mini-kubelet/why
//
// Each port is an endpoint: an address and a handler. Its connections are limited in number,
// and those that do nothing give way to new ones (crowd.go). Requests to the first two only
// read, are limited in time, and answered where they are meant for this machine
// (localhost.go). The kubelet API has TLS, and every request to it is
// authenticated, then authorized as access to a subresource of the node (filter.go), before
// anything else looks at it. Requests that may take long there, streams and followed logs,
// end with the client or the server (long.go), and so do their connections to the runtime
// (streams.go). Without an API server there is nobody to ask who a client is: what becomes of
// the port then is decided in alone.go. The socket is in local.go.
//
//	ui         the live page, which a command of its own serves from what the socket says
//	podaccess  from a pod's name to its containers: logs, exec, attach, port-forward
//	stats      what node, pods and containers use: /stats/summary, /metrics/resource
//
// A local API for kubectl will be here too: /api, /apis, /openapi and /version are free for it.
package server

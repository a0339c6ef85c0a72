package streaming

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/klog/v2"
)

// tunnelProtocol is port-forwarding as clients do it since Kubernetes 1.31: the same
// SPDY, carried by WebSocket messages instead of a bare connection (KEP-4006).
const tunnelProtocol = "SPDY/3.1+" + portforward.ProtocolV1Name

// throughTunnel accepts a WebSocket, and lets serve handle its content like a connection that
// was upgraded to SPDY.
func throughTunnel(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	upgrader := websocket.Upgrader{Subprotocols: []string{tunnelProtocol}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		klog.V(2).InfoS("WebSocket tunnel could not be opened", "err", err)
		return
	}
	tunnel := clientportforward.NewTunnelingConnection("server", ws)
	defer tunnel.Close()
	inner := r.Clone(r.Context())
	inner.Header = http.Header{}
	inner.Header.Set("Connection", "Upgrade")
	inner.Header.Set("Upgrade", "SPDY/3.1")
	inner.Header.Set("X-Stream-Protocol-Version", portforward.ProtocolV1Name)
	serve(&tunnelled{tunnel, http.Header{}}, inner)
}

// tunnelled is the answer to a request whose upgrade has already taken place.
type tunnelled struct {
	net.Conn
	header http.Header
}

func (t *tunnelled) Header() http.Header { return t.header }

func (t *tunnelled) WriteHeader(int) {}

func (t *tunnelled) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.Conn, bufio.NewReadWriter(bufio.NewReader(t.Conn), bufio.NewWriter(t.Conn)), nil
}

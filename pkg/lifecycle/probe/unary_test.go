package probe

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestGRPCAgainstServersThatAreNone probes servers with handmade answers, right and
// wrong.
func TestGRPCAgainstServersThatAreNone(t *testing.T) {
	serving := "\x00\x00\x00\x00\x02\x08\x01"
	answers := func(status int, kind, body, grpcStatus, message string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" || r.URL.Path != checkMethod || r.Header.Get("Te") != "trailers" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Grpc-Timeout") != "60000m" {
				t.Errorf("asked %s %s with %v", r.Method, r.URL, r.Header)
			}
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
			w.WriteHeader(status)
			for _, b := range []byte(body) { // as many frames
				w.Write([]byte{b}) //nolint:errcheck // the client may have had enough
				w.(http.Flusher).Flush()
			}
			if grpcStatus != "" {
				w.Header().Set("Grpc-Status", grpcStatus)
				w.Header().Set("Grpc-Message", message)
			}
		}
	}
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    result
		text    string
	}{
		"serving":         {answers(200, "application/grpc+proto", serving, "0", ""), success, ""},
		"unknown status":  {answers(200, "application/grpc", "\x00\x00\x00\x00\x00", "0", ""), failure, `service unhealthy (responded with "UNKNOWN")`},
		"no such service": {answers(200, "application/grpc", "", "5", "no%20such"), failure, "error: health rpc probe failed: rpc error: code = NotFound desc = no such"},
		"odd message":     {answers(200, "application/grpc", "", "5", "100%"), failure, "code = NotFound desc = 100%"},
		"not implemented": {answers(200, "application/grpc", "", "12", "no"), failure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no"},
		"its deadline":    {answers(200, "application/grpc", "", "4", ""), failure, "timeout: health rpc did not complete within 1m0s"},
		"no grpc-status":  {answers(200, "application/grpc", serving, "", ""), failure, `code = Internal desc = the server sent the grpc-status ""`},
		"odd grpc-status": {answers(200, "application/grpc", serving, "-1", ""), failure, `the server sent the grpc-status "-1"`},
		"no message":      {answers(200, "application/grpc", "", "0", ""), failure, "not one message"},
		"half a message":  {answers(200, "application/grpc", serving[:6], "0", ""), failure, "not one message"},
		"two messages":    {answers(200, "application/grpc", serving+serving, "0", ""), failure, "not one message"},
		"compressed":      {answers(200, "application/grpc", "\x01"+serving[1:], "0", ""), failure, "not one message"},
		"no protobuf":     {answers(200, "application/grpc", "\x00\x00\x00\x00\x01\xff", "0", ""), failure, "code = Internal"},
		"HTTP":            {answers(200, "text/html", "hello", "", ""), failure, "code = Unknown desc = unexpected HTTP status code received from server: 200"},
		"not found":       {answers(404, "text/plain", "", "", ""), failure, "does not implement the grpc health protocol"},
		"unavailable":     {answers(503, "text/plain", "", "", ""), failure, "code = Unavailable"},
		"forbidden":       {answers(403, "text/plain", "", "", ""), failure, "code = PermissionDenied"},
		"ends the stream": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, failure, "code = Unavailable desc = the server ended the call"},
		"talks too much": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			io.Copy(w, strings.NewReader(strings.Repeat("x", 50<<10))) //nolint:errcheck // the client has enough
		}, failure, "code = ResourceExhausted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := once(t, serveHTTP2(t, tc.handler), &v1.Container{})
			check(t, a, err, tc.want, tc.text)
		})
	}
	t.Run("never ends", func(t *testing.T) {
		t.Parallel()
		unanswered(t, serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), "timeout: health rpc did not complete within %v")
	})
	for name, says := range map[string]string{
		"HTTP/1":              "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"closes at once":      "",
		"begins in the midst": "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			go accept(l, func(conn net.Conn) {
				fmt.Fprint(conn, says)
				conn.Close()
			})
			a, err := once(t, v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(portNumber(t, l.Addr().String()))}}, &v1.Container{})
			check(t, a, err, failure, "error: failed to connect service at \"127.0.0.1:")
		})
	}
}

// serveHTTP2 serves it until the test ends, and returns the gRPC probe of it.
func serveHTTP2(t *testing.T, handler http.HandlerFunc) v1.ProbeHandler {
	l := listen(t)
	server := &http.Server{Handler: handler, Protocols: &http.Protocols{}, ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() })
	return v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(portNumber(t, l.Addr().String()))}}
}

// accept serves every connection until the listener is closed.
func accept(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

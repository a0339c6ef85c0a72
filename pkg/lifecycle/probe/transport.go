package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
)

// maxResponse bounds what is read of a response, headers included.
const maxResponse = 1 << 20

// buffer is how much is read or written at once: probes say little.
const buffer = 1 << 10

// transport makes connections that end with their request, through no proxy, and
// with TLS accepts whatever certificate the container has.
type transport struct {
	secure *http.Transport
}

func newTransport() *transport {
	return &transport{secure: &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives:      true,
		DisableCompression:     true, // sends no Accept-Encoding
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxResponse,
	}}
}

// RoundTrip implements http.RoundTripper. A plain request is made on the caller's own
// goroutine: http.Transport starts two for each connection, which cost more than the
// request itself when the connection is used only once.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" {
		return t.secure.RoundTrip(req)
	}
	if req.URL.Hostname() == "" {
		return nil, errors.New("no Host in request URL") // net/http's words; dialling it would reach this host
	}
	ctx := req.Context()
	address := req.URL.Host
	if req.URL.Port() == "" { // in a redirection
		address = net.JoinHostPort(req.URL.Hostname(), "80")
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	res, err := exchange(conn, req)
	if err != nil {
		stop()
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // why the connection ended
		}
		return nil, err
	}
	res.Body = body{res.Body, conn, stop}
	return res, nil
}

// exchange sends the request and reads the response up to its body.
func exchange(conn net.Conn, req *http.Request) (*http.Response, error) {
	req = req.WithContext(req.Context()) // a copy
	req.Close = true
	w := bufio.NewWriterSize(conn, buffer)
	err := req.Write(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(io.LimitReader(conn, maxResponse), buffer)
	for {
		res, err := http.ReadResponse(r, req)
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
		// Interim responses, 103 Early Hints for example, have no body.
	}
}

// body closes its connection when it is closed.
type body struct {
	io.Reader
	conn net.Conn
	stop func() bool
}

// Close implements io.Closer.
func (b body) Close() error {
	b.stop()
	return b.conn.Close()
}

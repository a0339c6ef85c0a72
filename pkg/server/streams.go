package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/hangup"
)

// The runtime serves streams at URLs of its own, which only this node can reach. A
// request is proxied there byte by byte, or translated if it uses a protocol that
// runtimes leave to the kubelet (KEP-4006): version 5 of the WebSocket protocol,
// and port-forwarding through a WebSocket.

func (a *api) exec(w http.ResponseWriter, r *http.Request) {
	a.counted.stream("exec", r)
	streams, err := remotecommand.NewOptions(r)
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	pod, uid := podOf(r)
	u, err := a.Host.Exec(r.Context(), pod, uid, &v1.PodExecOptions{
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, TTY: streams.TTY,
		Container: r.PathValue("container"), Command: r.URL.Query()["command"],
	})
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	a.proxyCommand(w, r, u, streams)
}

func (a *api) attach(w http.ResponseWriter, r *http.Request) {
	a.counted.stream("attach", r)
	streams, err := remotecommand.NewOptions(r)
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	pod, uid := podOf(r)
	u, err := a.Host.Attach(r.Context(), pod, uid, &v1.PodAttachOptions{
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, TTY: streams.TTY,
		Container: r.PathValue("container"),
	})
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	a.proxyCommand(w, r, u, streams)
}

func (a *api) portForward(w http.ResponseWriter, r *http.Request) {
	a.counted.stream("portforward", r)
	tunnel := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	o := &v1.PodPortForwardOptions{}
	if !tunnel {
		v4, err := portforward.NewV4Options(r)
		if err != nil {
			say(w, http.StatusBadRequest, err.Error())
			return
		}
		o.Ports = v4.Ports
	}
	pod, uid := podOf(r)
	u, err := a.Host.PortForward(r.Context(), pod, uid, o)
	if err != nil {
		fail(w, r, err, http.StatusInternalServerError)
		return
	}
	h := a.proxyTo(u, r)
	if tunnel {
		h = translator.NewTunnelingHandler(h)
	}
	h.ServeHTTP(w, quiet(r))
}

func (a *api) proxyCommand(w http.ResponseWriter, r *http.Request, u *url.URL, streams *remotecommand.Options) {
	h := a.proxyTo(u, r)
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		h = translator.NewStreamTranslatorHandler(u, a.dialFor(r.Context()), 0, translator.Options{
			Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Tty: streams.TTY,
		})
	}
	h.ServeHTTP(w, quiet(r))
}

// proxyTo passes on an upgrade, but not the client's credentials.
func (a *api) proxyTo(u *url.URL, r *http.Request) http.Handler {
	r.Header.Del("Authorization")
	r.Header.Del("Cookie")
	return proxy.NewUpgradeAwareHandler(u, a.dialFor(r.Context()), false, true, proxyFailed{})
}

// dialFor makes connections to the runtime that break when ctx, a request's, ends. The
// libraries close the client's side alone then, and wait on for a runtime that takes no more.
func (a *api) dialFor(ctx context.Context) *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{}, // without one, the runtime's certificate would not be verified
		DialContext: func(dialling context.Context, network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(dialling, network, address)
			if err != nil {
				return nil, err
			}
			tcp, ok := c.(*net.TCPConn)
			if !ok {
				context.AfterFunc(ctx, func() { c.Close() })
				return c, nil
			}
			leaving := &runtimeConn{TCPConn: tcp}
			leaving.leave = sync.OnceFunc(func() { hangup.Leave(a.long.ctx, tcp) })
			context.AfterFunc(ctx, leaving.leave)
			return leaving, nil
		},
	}
}

// runtimeConn is a connection to the runtime, which gets what a client that has gone had sent, unless
// the server stops.
type runtimeConn struct {
	*net.TCPConn
	leave func()
}

func (c *runtimeConn) Close() error {
	c.leave()
	return nil
}

// quiet keeps the libraries from logging an error whenever a stream ends.
func quiet(r *http.Request) *http.Request {
	if klog.V(4).Enabled() {
		return r
	}
	return r.WithContext(klog.NewContext(r.Context(), klog.Logger{}))
}

package server

import (
	"context"
	"errors"
	"log"
	"net/http"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/ownsocket"
)

// LocalConfig is the kubelet API on a socket for the machine's administrator, who needs no
// certificate: he has the containers anyway. Both fields are required.
type LocalConfig struct {
	Path    string // of the socket; its directory is made, and made his alone
	Content Content
}

// listenLocal opens the socket.
func (s *Server) listenLocal(ctx context.Context, cfg Config, health *health, pages pages, counted *requestMetrics) error {
	c := *cfg.Local
	if cfg.Pods == nil || c.Path == "" || c.Content.Host == nil || c.Content.Configz == nil {
		return errors.New("server: the local API needs Path, Pods, Host and Configz")
	}
	long := newLongRequests()
	mux, err := newAPI(c.Content, cfg.Pods, long, health, pages, counted)
	if err != nil {
		return err
	}
	l, err := ownsocket.Listen(ctx, c.Path)
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	e := s.add("local API", l, maxAPIConnections, &http.Server{
		Handler:           withHeaders(counted.handler("local", short(admitted(traced(cfg.Traces, mux))))),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       apiIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(klog.NewStandardLogger("INFO").Writer(), "", log.Lshortfile),
	})
	e.long = long
	return nil
}

// admitted lets in whoever has connected: the socket has asked who that is.
func admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !letIn(r.Context()) {
			turnAway(w, http.StatusServiceUnavailable, "Too many connections")
			return
		}
		next.ServeHTTP(w, r)
	})
}

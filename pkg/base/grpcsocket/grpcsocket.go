// Package grpcsocket keeps a gRPC server on a unix socket, and makes the socket anew when somebody has removed it: who
// clears a directory that is shared with plug-ins would shut them out until the agent is started again.
package grpcsocket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/dirwatch"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

const (
	retry     = 30 * time.Second
	goneRetry = time.Second // so that who removes the socket each time costs little
)

var errGone = errors.New("somebody has removed the socket")

// Keep serves what open returns until ctx ends, and calls open again after a while when either fails. That is logged with
// the words given, once for each cause. It returns when all that was served has ended.
func Keep(ctx context.Context, c clock.Clock, words string, open func(context.Context) (*Server, error)) {
	var failing logonce.Error
	for {
		s, err := open(ctx)
		if err == nil {
			err = s.serve(ctx)
		}
		pause := retry
		if errors.Is(err, errGone) {
			pause = goneRetry
		}
		if ctx.Err() == nil && failing.Note(err) {
			klog.ErrorS(err, words+", trying again", "after", pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.After(pause):
		}
	}
}

// Server is a gRPC server that is not serving yet, and what it is to serve on.
type Server struct {
	GRPC        *grpc.Server // made with grpc.WaitForHandlers(true)
	Listener    net.Listener
	Path        string // of the socket
	Connections int    // how many are served at a time
}

// serve returns when ctx ends or the socket fails or is gone, and all requests have ended.
func (s *Server) serve(ctx context.Context) error {
	is, err := os.Lstat(s.Path)
	if err != nil {
		_ = s.Listener.Close() // which removes the socket, too
		if errors.Is(err, fs.ErrNotExist) {
			return errGone
		}
		return err
	}
	own, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(own, s.GRPC.Stop)
	var watch sync.WaitGroup
	watch.Go(func() {
		if dirwatch.Gone(own, s.Path, is) {
			cancel(errGone)
		}
	})
	klog.V(2).InfoS("Serving gRPC", "socket", s.Path)
	err = s.GRPC.Serve(netutil.LimitListener(s.Listener, s.Connections))
	stop()
	s.GRPC.Stop() // and waits for what it serves
	cancel(nil)
	watch.Wait()
	if errors.Is(context.Cause(own), errGone) {
		return errGone
	}
	return err
}

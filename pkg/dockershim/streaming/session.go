package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// stdio holds the streams that a client has opened. Streams that were not asked for are nil.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	tty      bool
	resize   <-chan remotecommand.TerminalSize
}

// session is one visit to a URL. k8s.io/cri-streaming calls it when the client has opened its
// streams, by SPDY or by a WebSocket protocol before v5.
type session struct {
	server *Server
	opts   *remotecommand.Options
	run    func(context.Context, stdio) error
}

func (s *session) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return s.run(ctx, s.stdio(in, out, err, resize))
}

func (s *session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	return s.run(ctx, s.stdio(in, out, err, resize))
}

// stdio leaves out the streams that were not asked for: WebSocket clients open them all.
func (s *session) stdio(in io.Reader, out, err io.Writer, resize <-chan remotecommand.TerminalSize) stdio {
	io := stdio{tty: s.opts.TTY, resize: resize}
	if s.opts.Stdin {
		io.in = in
	}
	if s.opts.Stdout {
		io.out = out
	}
	if s.opts.Stderr {
		io.err = err
	}
	return io
}

// offersV5 reports whether the client would speak the fifth WebSocket protocol, which
// can close stdin alone. k8s.io/cri-streaming leaves that to the API server.
func offersV5(r *http.Request) bool {
	if !wsstream.IsWebSocketRequest(r) {
		return false
	}
	offered := strings.Split(strings.Join(r.Header.Values(wsstream.WebSocketProtocolHeader), ","), ",")
	return slices.ContainsFunc(offered, func(p string) bool {
		return strings.TrimSpace(p) == remotecommand.StreamProtocolV5Name
	})
}

func (s *session) serveV5(w http.ResponseWriter, r *http.Request) {
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  wsstream.IgnoreChannel,
		remotecommand.StreamStdOut: wsstream.IgnoreChannel,
		remotecommand.StreamStdErr: wsstream.IgnoreChannel,
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	if s.opts.Stdin {
		channels[remotecommand.StreamStdIn] = wsstream.ReadChannel
	}
	if s.opts.Stdout {
		channels[remotecommand.StreamStdOut] = wsstream.WriteChannel
	}
	if s.opts.Stderr {
		channels[remotecommand.StreamStdErr] = wsstream.WriteChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(s.server.cfg.IdleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		klog.V(2).InfoS("WebSocket stream could not be opened", "err", err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	resize := make(chan remotecommand.TerminalSize)
	go readSizes(ctx, streams[remotecommand.StreamResize], resize)
	err = s.run(ctx, s.stdio(streams[remotecommand.StreamStdIn], streams[remotecommand.StreamStdOut], streams[remotecommand.StreamStdErr], resize))
	if err := json.NewEncoder(streams[remotecommand.StreamErr]).Encode(statusOf(err)); err != nil {
		klog.V(4).InfoS("Client left before its result", "err", err)
	}
}

// maxSizeText is how much a client may write for one terminal size, in bytes.
const maxSizeText = 1 << 10

// readSizes decodes terminal sizes until the stream or ctx ends.
func readSizes(ctx context.Context, stream io.Reader, sizes chan<- remotecommand.TerminalSize) {
	defer close(sizes)
	limited := &io.LimitedReader{R: stream}
	decoder := json.NewDecoder(limited)
	for {
		limited.N = maxSizeText // the decoder buffers a value while it reads it, and a client may never end one
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			return
		}
		select {
		case sizes <- size:
		case <-ctx.Done():
			return
		}
	}
}

// statusOf returns the message that tells clients how a session ended, see KEP-4006.
func statusOf(err error) metav1.Status {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit) && exit.Exited():
		return metav1.Status{
			Status: metav1.StatusFailure,
			Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type:    remotecommand.ExitCodeCauseType,
				Message: strconv.Itoa(exit.ExitStatus()),
			}}},
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
		}
	}
	return metav1.Status{
		Status:  metav1.StatusFailure,
		Reason:  metav1.StatusReasonInternalError,
		Message: err.Error(),
		Code:    http.StatusInternalServerError,
	}
}

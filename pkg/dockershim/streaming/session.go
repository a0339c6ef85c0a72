package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
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

// session is one visit to a URL.
type session struct {
	server *Server
	opts   *remotecommand.Options
	run    func(context.Context, stdio) error
	begun  bool // by k8s.io/cri-streaming
}

func (s *session) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	s.begun = true
	return s.run(ctx, s.stdio(in, out, err, resize))
}

func (s *session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	s.begun = true
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

// serve opens the client's streams and runs the session. k8s.io/cri-streaming does the same, but
// reads terminal sizes without a bound, and does not know the fifth WebSocket protocol. It is left
// to serve those old protocols of SPDY that have no terminal sizes.
func (s *session) serve(w http.ResponseWriter, r *http.Request, old func(protocols []string)) {
	switch {
	case wsstream.IsWebSocketRequest(r):
		s.serveWebSocket(w, r)
	case offers(r, remotecommand.StreamProtocolV4Name), offers(r, remotecommand.StreamProtocolV3Name):
		s.serveSPDY(w, r)
	default:
		old([]string{remotecommand.StreamProtocolV2Name, remotecommand.StreamProtocolV1Name})
		if !s.begun { // the client has not opened its streams in time, and the library leaves it there
			hangUpUpgraded(r.Context())
		}
	}
}

// offers reports whether a SPDY client would speak the protocol.
func offers(r *http.Request, protocol string) bool {
	offered := strings.Split(strings.Join(r.Header.Values(httpstream.HeaderProtocolVersion), ","), ",")
	return slices.ContainsFunc(offered, func(p string) bool { return strings.TrimSpace(p) == protocol })
}

// WebSocket protocols before the fifth, which can close stdin alone. "" is the first: a client
// that names none.
const (
	oldWebSocket   = wsstream.ChannelWebSocketProtocol
	oldBase64      = wsstream.Base64ChannelWebSocketProtocol
	fourth         = "v4." + oldWebSocket
	fourthInBase64 = "v4." + oldBase64
)

func (s *session) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  wsstream.IgnoreChannel,
		remotecommand.StreamStdOut: wsstream.IgnoreChannel,
		remotecommand.StreamStdErr: wsstream.IgnoreChannel,
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	first := remotecommand.StreamErr // the first that the client reads
	if s.opts.Stdin {
		channels[remotecommand.StreamStdIn] = wsstream.ReadChannel
	}
	if s.opts.Stderr {
		channels[remotecommand.StreamStdErr], first = wsstream.WriteChannel, remotecommand.StreamStdErr
	}
	if s.opts.Stdout {
		channels[remotecommand.StreamStdOut], first = wsstream.WriteChannel, remotecommand.StreamStdOut
	}
	protocols := map[string]wsstream.ChannelProtocolConfig{}
	for _, name := range []string{remotecommand.StreamProtocolV5Name, fourth, fourthInBase64, oldWebSocket, oldBase64, ""} {
		protocols[name] = wsstream.ChannelProtocolConfig{Binary: name != oldBase64 && name != fourthInBase64, Channels: channels}
	}
	conn := wsstream.NewConn(protocols)
	conn.SetIdleTimeout(s.server.cfg.IdleTimeout)
	protocol, streams, err := conn.Open(w, r)
	if err != nil {
		klog.V(2).InfoS("WebSocket stream could not be opened", "err", err)
		return
	}
	defer conn.Close()
	if protocol != remotecommand.StreamProtocolV5Name {
		_, _ = streams[first].Write(nil) // so the client hears that it is connected
	}
	s.runOn(r.Context(), opened{
		in: streams[remotecommand.StreamStdIn], out: streams[remotecommand.StreamStdOut], err: streams[remotecommand.StreamStdErr],
		result: streams[remotecommand.StreamErr], sizes: streams[remotecommand.StreamResize],
		asText: protocol != remotecommand.StreamProtocolV5Name && protocol != fourth && protocol != fourthInBase64,
	})
}

// serveSPDY serves the third and the fourth protocol.
func (s *session) serveSPDY(w http.ResponseWriter, r *http.Request) {
	protocol, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name, remotecommand.StreamProtocolV3Name})
	if err != nil {
		return // it has answered
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.server.cfg.CreationTimeout)
	defer cancel()
	come := make(chan newStream)
	var late atomic.Int32
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, replied <-chan struct{}) error {
		select {
		case come <- newStream{stream, replied}:
			return nil
		case <-ctx.Done(): // the session has all that it wants
			if late.Add(1) > maxUnwanted {
				hangUpUpgraded(r.Context())
				return nil // the library logs an error
			}
			return errors.New("too late for another stream")
		}
	})
	if conn == nil {
		return // it has answered
	}
	defer conn.Close()
	conn.SetIdleTimeout(s.server.cfg.IdleTimeout)
	streams, err := s.collectStreams(ctx, come)
	cancel()
	if err != nil {
		klog.V(2).InfoS("SPDY streams were not opened", "err", err)
		return
	}
	o := opened{result: streams[remotecommand.StreamTypeError], asText: protocol != remotecommand.StreamProtocolV4Name}
	// A missing stream must be nil as an interface, too.
	if in, ok := streams[remotecommand.StreamTypeStdin]; ok {
		o.in = in
	}
	if out, ok := streams[remotecommand.StreamTypeStdout]; ok {
		o.out = out
	}
	if err, ok := streams[remotecommand.StreamTypeStderr]; ok {
		o.err = err
	}
	if sizes, ok := streams[remotecommand.StreamTypeResize]; ok {
		o.sizes = sizes
	}
	s.runOn(r.Context(), o)
}

// maxUnwanted is how many streams that a session does not want are reset before its client is
// hung up on: each is a line in the log or an entry in the library's list.
const maxUnwanted = 8

// newStream is a stream that a client opens. It may be used once the client has been told so.
type newStream struct {
	httpstream.Stream
	replied <-chan struct{}
}

// collectStreams waits until the client has opened one of each kind that the session needs.
func (s *session) collectStreams(ctx context.Context, come <-chan newStream) (map[string]httpstream.Stream, error) {
	missing := map[string]bool{
		remotecommand.StreamTypeError: true, remotecommand.StreamTypeStdin: s.opts.Stdin, remotecommand.StreamTypeStdout: s.opts.Stdout,
		remotecommand.StreamTypeStderr: s.opts.Stderr, remotecommand.StreamTypeResize: s.opts.TTY,
	}
	maps.DeleteFunc(missing, func(_ string, wanted bool) bool { return !wanted })
	streams := map[string]httpstream.Stream{}
	unwanted := 0
	for len(missing) > 0 {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the client has not opened %v: %w", slices.Sorted(maps.Keys(missing)), context.Cause(ctx))
		case one := <-come:
			kind := one.Headers().Get(remotecommand.StreamType)
			if !missing[kind] {
				if unwanted++; unwanted > maxUnwanted {
					return nil, errors.New("the client opens streams that nobody asked for")
				}
				_ = one.Reset() // a second one, or one that nobody asked for
				continue
			}
			select {
			case <-one.replied:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			delete(missing, kind)
			streams[kind] = one.Stream
		}
	}
	return streams, nil
}

// opened are the streams of a client, however it came. Those that it has not opened are nil.
type opened struct {
	in       io.Reader
	out, err io.Writer
	result   io.Writer
	sizes    io.Reader // of its terminal
	asText   bool      // the result is a sentence, and nothing for success
}

// runOn runs the session and tells the client how it ended.
func (s *session) runOn(ctx context.Context, o opened) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var resize chan remotecommand.TerminalSize
	if o.sizes != nil {
		resize = make(chan remotecommand.TerminalSize)
		go readSizes(ctx, o.sizes, resize)
	}
	status := statusOf(s.run(ctx, s.stdio(o.in, o.out, o.err, resize)))
	var err error
	switch {
	case !o.asText:
		err = json.NewEncoder(o.result).Encode(status)
	case status.Status != metav1.StatusSuccess:
		_, err = io.WriteString(o.result, status.Message)
	}
	if err != nil {
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

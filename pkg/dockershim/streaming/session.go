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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
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
// reads terminal sizes and opens streams without a bound, and does not know the fifth WebSocket
// protocol.
func (s *session) serve(w http.ResponseWriter, r *http.Request) {
	if wsstream.IsWebSocketRequest(r) {
		s.serveWebSocket(w, r)
	} else {
		s.serveSPDY(w, r)
	}
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

// The protocols of SPDY, the best first: the fourth has a status as result, the third terminal
// sizes. The first, of Kubernetes 1.0, is served like the second.
var spdyProtocols = []string{
	remotecommand.StreamProtocolV4Name, remotecommand.StreamProtocolV3Name,
	remotecommand.StreamProtocolV2Name, remotecommand.StreamProtocolV1Name,
}

func (s *session) serveSPDY(w http.ResponseWriter, r *http.Request) {
	protocol, err := httpstream.Handshake(r, w, spdyProtocols)
	if err != nil {
		return // it has answered
	}
	opening, complete := context.WithCancel(r.Context())
	defer complete()
	client := s.server.upgradeToSPDY(opening, w, r)
	if client == nil {
		return // it has answered
	}
	defer client.Close()
	late := time.AfterFunc(s.server.cfg.CreationTimeout, client.hangUp)
	streams, err := s.collectStreams(client, slices.Index(spdyProtocols, protocol) <= 1)
	late.Stop()
	complete()
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

// collectStreams waits until the client has opened one of each kind that the session needs.
func (s *session) collectStreams(client *spdyClient, sizes bool) (map[string]httpstream.Stream, error) {
	missing := map[string]bool{
		remotecommand.StreamTypeError: true, remotecommand.StreamTypeStdin: s.opts.Stdin, remotecommand.StreamTypeStdout: s.opts.Stdout,
		remotecommand.StreamTypeStderr: s.opts.Stderr, remotecommand.StreamTypeResize: s.opts.TTY && sizes,
	}
	maps.DeleteFunc(missing, func(_ string, wanted bool) bool { return !wanted })
	streams := map[string]httpstream.Stream{}
	for len(missing) > 0 {
		select {
		case <-client.ctx.Done():
			return nil, fmt.Errorf("the client has gone or was too slow, without %v", slices.Sorted(maps.Keys(missing)))
		case one := <-client.opened:
			if !one.ready() {
				return nil, errors.New("the client has gone")
			}
			kind := one.Headers().Get(remotecommand.StreamType)
			if !missing[kind] {
				client.refuse(one.Stream) // a second one, or one that nobody asked for
				continue
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

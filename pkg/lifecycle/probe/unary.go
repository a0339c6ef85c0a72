package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connectError is why an HTTP/2 connection could not be made.
type connectError struct{ error }

// unary makes one gRPC call over a connection of its own, and returns the response's
// message. The error is a connectError or has a gRPC code. Everything happens on the
// caller's goroutine: a grpc.ClientConn starts half a dozen, and for a single call
// costs six times as much as the call.
func unary(ctx context.Context, address, method string, message []byte, timeout time.Duration) ([]byte, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, connectError{err}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := newCall(conn)
	if err := c.send(address, method, message, timeout); err != nil {
		return nil, connectError{err}
	}
	for !c.ended {
		if err := c.receive(); err != nil {
			if !c.greeted {
				return nil, connectError{err}
			}
			return nil, err
		}
	}
	return c.answer()
}

// call is the only call of a connection: stream 1.
type call struct {
	conn    net.Conn
	in      *bufio.Reader
	frames  *http2.Framer
	out     bytes.Buffer      // frames to be written
	greeted bool              // the server has sent its settings, so it speaks HTTP/2
	ended   bool              // the server has ended the stream
	headers map[string]string // trailers among them
	body    []byte
}

const stream = 1

func newCall(conn net.Conn) *call {
	c := &call{conn: conn, in: bufio.NewReaderSize(io.LimitReader(conn, maxResponse), buffer), headers: map[string]string{}}
	c.frames = http2.NewFramer(&c.out, c.in)
	c.frames.SetReuseFrames()
	c.frames.SetMaxReadFrameSize(16 << 10) // the protocol's default: more is neither requested nor buffered
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.frames.MaxHeaderListSize = maxOutput
	return c
}

// flush writes the collected frames in one piece.
func (c *call) flush() error {
	_, err := c.out.WriteTo(c.conn)
	return err
}

// send writes the connection's preface and the whole request.
func (c *call) send(authority, method string, message []byte, timeout time.Duration) error {
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", http.MethodPost}, {":scheme", "http"}, {":path", method}, {":authority", authority},
		{"content-type", "application/grpc"}, {"user-agent", userAgent}, {"te", "trailers"},
		{"grpc-timeout", strconv.FormatInt(timeout.Milliseconds(), 10) + "m"},
	} {
		// Writing to memory does not fail, here or in the frames below.
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	c.out.WriteString(http2.ClientPreface)
	_ = c.frames.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) // not compressed
	_ = c.frames.WriteData(stream, true, append(framed, message...))
	return c.flush()
}

// receive reads one frame and handles it.
func (c *call) receive() error {
	frame, err := c.frames.ReadFrame()
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	if _, greets := frame.(*http2.SettingsFrame); !greets && !c.greeted {
		return status.Error(codes.Unavailable, "the server does not speak HTTP/2")
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if c.greeted = true; !f.IsAck() {
			_ = c.frames.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.frames.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		if f.LastStreamID < stream {
			return status.Errorf(codes.Unavailable, "the server refused the call: %v", f.ErrCode)
		}
	case *http2.RSTStreamFrame:
		return status.Errorf(codes.Unavailable, "the server ended the call: %v", f.ErrCode)
	case *http2.MetaHeadersFrame:
		for _, h := range f.Fields {
			c.headers[h.Name] = h.Value
		}
		c.ended = f.StreamEnded()
	case *http2.DataFrame:
		if c.body = append(c.body, f.Data()...); len(c.body) > maxOutput {
			return status.Error(codes.ResourceExhausted, "the response is too long")
		}
		c.ended = f.StreamEnded()
	}
	if c.out.Len() == 0 || c.ended || c.in.Buffered() > 0 {
		return nil // nothing to say, or not yet
	}
	return c.flush()
}

// answer returns the result of a call that has ended.
func (c *call) answer() ([]byte, error) {
	if said := c.headers[":status"]; said != "200" || !strings.HasPrefix(c.headers["content-type"], "application/grpc") {
		return nil, status.Error(codeOf(said), fmt.Sprintf("unexpected HTTP status code received from server: %s; content-type %q", said, c.headers["content-type"]))
	}
	code, err := strconv.ParseUint(c.headers["grpc-status"], 10, 32)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the server sent the grpc-status %q", c.headers["grpc-status"])
	}
	if code != uint64(codes.OK) {
		message, err := url.PathUnescape(c.headers["grpc-message"])
		if err != nil {
			message = c.headers["grpc-message"]
		}
		return nil, status.Error(codes.Code(code), message)
	}
	// One message: not compressed, its length, itself.
	if len(c.body) < 5 || c.body[0] != 0 || binary.BigEndian.Uint32(c.body[1:]) != uint32(len(c.body)-5) {
		return nil, status.Error(codes.Internal, "the response is not one message that can be read")
	}
	return c.body[5:], nil
}

// codeOf returns the gRPC code for an HTTP status, by gRPC's own mapping.
func codeOf(httpStatus string) codes.Code {
	switch httpStatus {
	case "400":
		return codes.Internal
	case "401":
		return codes.Unauthenticated
	case "403":
		return codes.PermissionDenied
	case "404":
		return codes.Unimplemented
	case "429", "502", "503", "504":
		return codes.Unavailable
	}
	return codes.Unknown
}

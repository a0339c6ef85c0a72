package streaming

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/moby/spdystream"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// maxUnwanted is how many streams that a client is not to open are reset before it is hung up
// on: each is an entry in the library's list.
const maxUnwanted = 8

// newStream is a stream that a client opens.
type newStream struct {
	httpstream.Stream
	replied <-chan struct{}
}

// ready waits until the client has been told of the stream, and reports whether it was: otherwise
// the connection has ended, and a write would wait for ever.
func (n newStream) ready() bool {
	<-n.replied
	s, ok := n.Stream.(*spdystream.Stream)
	return !ok || s.SendReply(http.Header{}, false) == nil // nothing is sent twice, what failed fails again
}

// spdyClient is the connection of a client that speaks SPDY, which opens streams as it likes.
type spdyClient struct {
	httpstream.Connection
	ctx      context.Context // ends with the connection
	opened   chan newStream
	unwanted atomic.Int32
}

// upgradeToSPDY returns nil when it has answered the request otherwise. The streams that the
// client opens come through opened until ctx ends, and are refused afterwards. k8s.io/cri-streaming
// would leave the goroutine of each stream that nobody takes, for ever.
func (s *Server) upgradeToSPDY(ctx context.Context, w http.ResponseWriter, r *http.Request) *spdyClient {
	c := &spdyClient{ctx: r.Context(), opened: make(chan newStream)}
	c.Connection = spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, replied <-chan struct{}) error {
		select {
		case c.opened <- newStream{stream, replied}:
			return nil
		case <-ctx.Done():
			c.isUnwanted()
			_ = stream.Reset()
			return nil // the library logs an error
		}
	})
	if c.Connection == nil {
		return nil
	}
	c.SetIdleTimeout(s.cfg.IdleTimeout)
	return c
}

// refuse resets a stream that the client has been told of, and reports whether it was hung up on.
func (c *spdyClient) refuse(stream httpstream.Stream) bool {
	c.drop(stream)
	return c.isUnwanted()
}

// drop forgets a stream. What the client still sends there is not waited for.
func (c *spdyClient) drop(stream httpstream.Stream) {
	_ = stream.Reset()
	c.RemoveStreams(stream)
}

// isUnwanted counts a stream, and reports whether the client was hung up on for it.
func (c *spdyClient) isUnwanted() bool {
	if c.unwanted.Add(1) <= maxUnwanted {
		return false
	}
	c.hangUp()
	return true
}

func (c *spdyClient) hangUp() { hangUpUpgraded(c.ctx) }

// Close ends all streams, and the connection even if the client has opened others meanwhile,
// for which the library would wait.
func (c *spdyClient) Close() error {
	err := c.Connection.Close()
	c.hangUp()
	return err
}

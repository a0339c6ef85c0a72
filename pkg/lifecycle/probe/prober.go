package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/httpget"
)

const (
	// userAgent is how a probe introduces itself: like the kubelet of this release.
	userAgent = "kube-probe/1.37"
	// maxOutput bounds what is read of an answer.
	maxOutput = 10 << 10
	// tries is how often a probe that cannot be carried out is tried in one run.
	tries = 3
)

// Exec runs a command in a container.
type Exec interface {
	ExecSync(context.Context, *cri.ExecSyncRequest, ...grpc.CallOption) (*cri.ExecSyncResponse, error)
}

// subject is a container and where a prober reaches it.
type subject struct {
	id        string // at the runtime
	container *v1.Container
	host      string // the pod's address
}

// answer is the outcome of one run of a probe.
type answer struct {
	result  result
	text    string // why it failed, or what to warn of
	warning bool   // success, but with something to warn of
}

// prober carries out probes. Safe for concurrent use.
type prober struct {
	exec Exec
	http http.RoundTripper
}

func newProber(exec Exec) *prober {
	return &prober{exec: exec, http: newTransport()}
}

// run carries out a probe, within its timeout. An error means that it could not be
// carried out, and says nothing about the container.
func (p *prober) run(ctx context.Context, spec *v1.Probe, s subject) (a answer, err error) {
	for range tries {
		a, err = p.try(ctx, spec, s)
		// What the runtime could not tell in time, it would not tell sooner of another run.
		if err == nil || ctx.Err() != nil || status.Code(err) == codes.Unavailable {
			break
		}
	}
	return a, err
}

func (p *prober) try(ctx context.Context, spec *v1.Probe, s subject) (answer, error) {
	timeout := time.Duration(max(spec.TimeoutSeconds, 1)) * time.Second
	if spec.Exec != nil {
		return p.runExec(ctx, spec.Exec, s, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case spec.HTTPGet != nil:
		return p.runHTTP(ctx, spec.HTTPGet, s)
	case spec.TCPSocket != nil:
		return runTCP(ctx, spec.TCPSocket, s)
	case spec.GRPC != nil:
		return runGRPC(ctx, spec.GRPC, s, timeout)
	}
	return answer{}, errors.New("missing probe handler")
}

// runTCP succeeds when a connection can be made.
func runTCP(ctx context.Context, a *v1.TCPSocketAction, s subject) (answer, error) {
	port, err := httpget.Port(a.Port, s.container)
	if err != nil {
		return answer{}, err
	}
	address, err := addressOf(a.Host, s.host, port)
	if err != nil {
		return answer{}, err
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return answer{result: failure, text: err.Error()}, nil
	}
	conn.Close()
	return answer{result: success}, nil
}

// dial connects for a probe. The socket lingers a second at most, so that many
// probes do not fill the table of connections with ones in TIME_WAIT.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
		}); e != nil {
			return e
		}
		return err
	}}
	return d.DialContext(ctx, network, address)
}

// addressOf returns where a probe connects to: the host that it names, or else the
// pod.
func addressOf(host, pod string, port int) (string, error) {
	if host == "" {
		host = pod
	}
	if host == "" {
		return "", errors.New("the pod has no address yet")
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

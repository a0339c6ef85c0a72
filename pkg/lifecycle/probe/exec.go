package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/crimeta"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// reportWithin is how long the runtime may take, beyond the probe's timeout, to say how a command
// has ended. The runtime itself kills one that takes longer than the timeout. The dockershim gives
// up after 30 s, with an error that is no verdict: it is to be heard first.
const reportWithin = 45 * time.Second

// runExec succeeds when the command exits with 0 in time. The time is the command's: Docker says
// late that one has ended that left a child behind.
func (p *prober) runExec(ctx context.Context, a *v1.ExecAction, s subject, timeout time.Duration) (answer, error) {
	command, err := expand(a.Command, s.container.Env)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(crimeta.OutputLimit(ctx, maxOutput), timeout+reportWithin)
	defer cancel()
	r, err := p.exec.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: s.id, Cmd: command, Timeout: int64(timeout / time.Second)})
	switch {
	case err != nil && (status.Code(err) == codes.DeadlineExceeded || errors.Is(ctx.Err(), context.DeadlineExceeded)):
		return answer{result: failure, text: fmt.Sprintf("command timed out: %q timed out after %v", bounds.Quote(strings.Join(command, " ")), timeout)}, nil
	case err != nil:
		if st, ok := status.FromError(err); ok {
			err = &runtimeError{st}
		}
		return answer{}, err
	case r.ExitCode != 0:
		output := string(r.Stdout) + string(r.Stderr)
		return answer{result: failure, text: output[:min(len(output), maxOutput)]}, nil
	}
	return answer{result: success}, nil
}

// runtimeError reads without gRPC's wrapping.
type runtimeError struct{ status *status.Status }

func (e *runtimeError) Error() string              { return e.status.Message() }
func (e *runtimeError) GRPCStatus() *status.Status { return e.status }

// expand replaces $(NAME) with the value that the container's spec gives that name.
// Values from outside the spec are not known here, as in the kubelet.
func expand(command []string, env []v1.EnvVar) ([]string, error) {
	values := make(map[string]string, len(env))
	for _, e := range env {
		values[e.Name] = e.Value
	}
	words, _, err := criconfig.ExpandAll(command, criconfig.MaxArguments, func(name string) (string, bool) {
		value, found := values[name]
		return value, found
	})
	return words, err
}

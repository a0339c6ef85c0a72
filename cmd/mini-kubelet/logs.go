package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// logFlags are kubectl's.
type logFlags struct {
	podFlags
	container                                          string
	follow, previous, timestamps, all, prefix, literal bool
	tail, limit                                        int64
	since                                              time.Duration
	sinceTime                                          string
}

const logsHelp = `Print the log of a container of a pod. --follow goes on with the next container when
this one is restarted, and ends when it is not. On a terminal, control characters are
shown as escapes unless --raw is given.`

func newLogsCommand(raw streams) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs POD [CONTAINER]",
		Short: "Print the log of a container of a pod",
		Long:  logsHelp,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && f.container == "" && !f.all {
				f.container = args[1]
			} else if len(args) == 2 {
				return errors.New("only one of -c, --all-containers and an inline [CONTAINER] arg is allowed")
			}
			query, err := f.query()
			if err != nil {
				return err
			}
			c, pod, err := f.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			containers := containerNames(pod)
			if !f.all {
				container, note, err := chooseContainer(pod, f.container)
				if err != nil {
					return err
				}
				if note != "" {
					fmt.Fprintln(cmd.ErrOrStderr(), note)
				}
				containers = []string{container}
			}
			out := raw.out
			if isTerminal(out) && !f.literal {
				out = visible.Lines(out)
			}
			return f.print(cmd.Context(), c, pod, containers, query, out, cmd.ErrOrStderr())
		},
	}
	f.addTo(cmd)
	return cmd
}

func (f *logFlags) addTo(cmd *cobra.Command) {
	f.podFlags.addTo(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&f.container, "container", "c", "", "container of the pod; the first when empty, or the one that its annotation "+defaultContainer+" names")
	fs.BoolVarP(&f.follow, "follow", "f", false, "print also what comes")
	fs.BoolVarP(&f.previous, "previous", "p", false, "the log of the container before the last restart")
	fs.BoolVar(&f.timestamps, "timestamps", false, "each line with its time")
	fs.BoolVar(&f.all, "all-containers", false, "the logs of all containers of the pod")
	fs.BoolVar(&f.prefix, "prefix", false, "each line with the pod and the container that it is from")
	fs.BoolVar(&f.literal, "raw", false, "pass control characters on to a terminal")
	fs.Int64Var(&f.tail, "tail", -1, "lines from the end; -1 for all")
	fs.Int64Var(&f.limit, "limit-bytes", 0, "most bytes of a log")
	fs.DurationVar(&f.since, "since", 0, "only what is newer than that, such as 5s, 2m or 3h")
	fs.StringVar(&f.sinceTime, "since-time", "", "only what is newer than that time (RFC 3339)")
}

// query words the flags for the kubelet API.
func (f *logFlags) query() (url.Values, error) {
	q := url.Values{}
	for name, set := range map[string]bool{"follow": f.follow, "previous": f.previous, "timestamps": f.timestamps} {
		if set {
			q.Set(name, "true")
		}
	}
	switch {
	case f.all && f.container != "":
		return nil, errors.New("--all-containers and --container exclude each other")
	case f.tail < -1:
		return nil, errors.New("--tail must be greater than or equal to -1")
	case f.limit < 0:
		return nil, errors.New("--limit-bytes must be greater than 0")
	case f.since < 0:
		return nil, errors.New("--since must be greater than 0")
	case f.since != 0 && f.sinceTime != "":
		return nil, errors.New("at most one of `sinceTime` or `sinceSeconds` may be specified")
	}
	if f.tail >= 0 {
		q.Set("tailLines", strconv.FormatInt(f.tail, 10))
	}
	if f.limit > 0 {
		q.Set("limitBytes", strconv.FormatInt(f.limit, 10))
	}
	if f.since > 0 {
		q.Set("sinceSeconds", strconv.FormatInt(int64((f.since+time.Second-1)/time.Second), 10))
	}
	if f.sinceTime != "" {
		if _, err := time.Parse(time.RFC3339, f.sinceTime); err != nil {
			return nil, fmt.Errorf("--since-time: want a time like 2026-11-30T12:00:00Z, got %q", f.sinceTime)
		}
		q.Set("sinceTime", f.sinceTime)
	}
	return q, nil
}

// print writes the logs one after the other, or line by line as they come when they are followed.
func (f *logFlags) print(ctx context.Context, c *agentClient, pod *v1.Pod, containers []string, query url.Values, out, notes io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	if !f.follow {
		group.SetLimit(1)
	}
	whole := &sync.Mutex{}
	for _, container := range containers {
		to := out
		if f.prefix {
			to = &prefixed{to: out, mu: whole, prefix: fmt.Sprintf("[pod/%s/%s] ", pod.Name, container)}
		} else if f.follow && len(containers) > 1 {
			to = &prefixed{to: out, mu: whole}
		}
		log := &containerLog{client: c, pod: pod, container: container, out: to, notes: notes}
		group.Go(func() error { return log.print(ctx, query, f.follow) })
	}
	return group.Wait()
}

// containerLog is what prints one container's log.
type containerLog struct {
	client     *agentClient
	pod        *v1.Pod
	container  string
	out, notes io.Writer
}

func (l *containerLog) print(ctx context.Context, query url.Values, follow bool) error {
	for {
		seen := l.attempt(l.pod)
		if err := l.copy(ctx, query); err != nil || !follow {
			return err
		}
		again, err := l.restarted(ctx, seen)
		if err != nil || !again {
			return err
		}
		fmt.Fprintf(l.notes, "container %s was restarted\n", l.container)
		// All of the new one's log.
		query = url.Values{"follow": {"true"}, "timestamps": query["timestamps"]}
	}
}

func (l *containerLog) copy(ctx context.Context, query url.Values) error {
	resp, err := l.client.get(ctx, l.client.url(query, "containerLogs", l.pod.Namespace, l.pod.Name, l.container))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(l.out, resp.Body)
	if p, ok := l.out.(*prefixed); ok {
		err = errors.Join(err, p.flush())
	}
	if ctx.Err() != nil {
		return interrupted
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the log broke off: the agent has ended, or could not read on")
	}
	return err
}

// Times of a look for a container's successor.
const restartLook = 500 * time.Millisecond

// restarted waits for the container that takes the place of the one that was seen. It returns false if
// there will be none.
func (l *containerLog) restarted(ctx context.Context, seen string) (bool, error) {
	ticker := time.NewTicker(restartLook)
	defer ticker.Stop()
	for {
		list, err := l.client.pods(ctx)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(list.Items, func(p v1.Pod) bool { return p.UID == l.pod.UID })
		if i < 0 {
			return false, nil
		}
		l.pod = &list.Items[i]
		if now := l.attempt(l.pod); now != "" && now != seen {
			return true, nil
		}
		if !mayRestart(l.pod, l.container) {
			return false, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false, interrupted
		}
	}
}

// attempt is the ID of the container whose log there is: what runs, or what ended last.
func (l *containerLog) attempt(p *v1.Pod) string {
	s := statusOf(p, l.container)
	switch {
	case s == nil:
		return ""
	case s.State.Running != nil:
		return s.ContainerID
	case s.State.Terminated != nil:
		return s.State.Terminated.ContainerID
	case s.LastTerminationState.Terminated != nil:
		return s.LastTerminationState.Terminated.ContainerID
	}
	return ""
}

func statusOf(p *v1.Pod, container string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		if i := slices.IndexFunc(list, func(s v1.ContainerStatus) bool { return s.Name == container }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// mayRestart reports whether a container that has ended, or is about to be seen so, may run again.
func mayRestart(p *v1.Pod, container string) bool {
	spec, kind := pods.Container(p, container)
	if spec == nil || kind == pods.EphemeralContainer || p.DeletionTimestamp != nil || pods.IsFinished(p.Status.Phase) {
		return false
	}
	policy := p.Spec.RestartPolicy
	if spec.RestartPolicy != nil {
		policy = v1.RestartPolicy(*spec.RestartPolicy)
	}
	s := statusOf(p, container)
	if s == nil || s.State.Terminated == nil {
		return true // it is not known yet how it ended, or it waits for its next start
	}
	failed := s.State.Terminated.ExitCode != 0
	if kind == pods.InitContainer {
		return failed && policy != v1.RestartPolicyNever
	}
	return policy == v1.RestartPolicyAlways || policy == v1.RestartPolicyOnFailure && failed
}

// prefixed writes whole lines, each with the prefix, to a writer that it shares.
type prefixed struct {
	to     io.Writer
	mu     *sync.Mutex
	prefix string
	rest   []byte
}

// maxLine is how long a line may be that is kept together.
const maxLine = 64 << 10

// Write implements io.Writer.
func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		end := bytes.IndexByte(p.rest, '\n') + 1
		switch {
		case end > 0:
		case len(p.rest) >= maxLine:
			end = len(p.rest)
		default:
			return len(b), nil
		}
		if err := p.line(end); err != nil {
			return 0, err
		}
	}
}

// flush writes what has no line break at its end.
func (p *prefixed) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	return p.line(len(p.rest))
}

func (p *prefixed) line(end int) error {
	line := append([]byte(p.prefix), p.rest[:end]...)
	p.rest = append(p.rest[:0], p.rest[end:]...)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.to.Write(line)
	return err
}

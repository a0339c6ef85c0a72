package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/timeline"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

const traceHelp = `Show the time line of one pod: what was done about it and what caused that, how long it took,
and where the time went until it ran. Times are in milliseconds since the first cause. The agent
remembers its last 8192 steps, also of pods that are gone: name them by name or UID.

-o json prints the steps themselves, -o chrome a trace that https://ui.perfetto.dev opens.`

// traceFlags are those of the command.
type traceFlags struct {
	podFlags
	format, since, container string
	follow                   bool
	gaps                     time.Duration
}

func newTraceCommand() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace POD",
		Short: "Show what was done about a pod, what caused it and how long it took",
		Long:  traceHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(time.Now())
			if err != nil {
				return err
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			t := &tracer{flags: &f, client: c, options: o, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()}
			if err := t.find(cmd.Context(), args[0]); err != nil {
				return err
			}
			if f.follow {
				return t.follow(cmd.Context())
			}
			return t.print()
		},
	}
	f.addTo(cmd)
	fs := cmd.Flags()
	fs.BoolVarP(&f.follow, "follow", "f", false, "print also what comes")
	fs.StringVar(&f.since, "since", "", "only what is newer than that, such as 5s, 2m or 3h, or than a time (RFC 3339)")
	fs.StringVarP(&f.container, "container", "c", "", "only what is about this container, and its causes")
	fs.DurationVar(&f.gaps, "gaps", 0, "only the times of at least that length in which nothing was done, and what was waited for")
	addOutputFlag(cmd, &f.format, "json", "chrome")
	return cmd
}

// options checks the flags.
func (f *traceFlags) options(now time.Time) (timeline.Options, error) {
	o := timeline.Options{Container: f.container, Gaps: f.gaps}
	switch {
	case f.gaps < 0:
		return o, fmt.Errorf("--gaps %s: want a positive duration", f.gaps)
	case f.follow && f.format != "":
		return o, errors.New("--follow prints lines: leave out -o")
	case f.format != "" && (f.gaps != 0 || f.container != ""):
		return o, fmt.Errorf("-o %s prints all steps: leave out --gaps and --container", f.format)
	}
	if f.since == "" {
		return o, nil
	}
	if ago, err := time.ParseDuration(f.since); err == nil && ago > 0 {
		o.Since = now.Add(-ago)
		return o, nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return o, fmt.Errorf("--since: want a duration like 5m, or a time like 2026-11-30T12:00:00Z, got %q", f.since)
	}
	o.Since = at
	return o, nil
}

// tracer prints the time line of one pod.
type tracer struct {
	flags      *traceFlags
	client     *agentClient
	options    timeline.Options
	out, notes io.Writer

	uid    string
	events []journal.Shown // all that the agent remembered, in the order of their numbers
}

// find reads the journal, and finds the pod in it.
func (t *tracer) find(ctx context.Context, name string) error {
	var err error
	if t.events, err = t.client.journal(ctx); err != nil {
		return err
	}
	list, err := t.client.pods(ctx)
	if err != nil {
		return err
	}
	if t.uid, err = t.which(ctx, list.Items, name); err != nil {
		return err
	}
	i := slices.IndexFunc(list.Items, func(p v1.Pod) bool { return string(p.UID) == t.uid })
	t.options.Gone = i < 0
	t.options.Runs = i >= 0 && list.Items[i].Status.Phase == v1.PodRunning
	return nil
}

// which returns the UID of the pod that is meant: one that there is, or else one that the journal remembers.
func (t *tracer) which(ctx context.Context, all []v1.Pod, name string) (string, error) {
	p, missing := findPod(all, t.flags.namespace, name)
	if missing == nil {
		t.tellFormer(p.Namespace, p.Name, string(p.UID))
		return string(p.UID), nil
	}
	former := timeline.Find(t.events, t.flags.namespace, name, t.client.node(ctx, all))
	switch {
	case len(former) == 0:
		return "", missing
	case slices.ContainsFunc(former, func(p timeline.Pod) bool { return p.Namespace != former[0].Namespace }):
		return "", fmt.Errorf("%q is the name of pods in several namespaces: choose one with --namespace", name)
	}
	t.tellFormer(former[0].Namespace, former[0].Name, former[0].UID)
	return former[0].UID, nil
}

// tellFormer tells of other pods of that name, which are traced by their UIDs.
func (t *tracer) tellFormer(namespace, name, uid string) {
	var others []string
	for _, p := range timeline.Find(t.events, namespace, name, "") {
		if p.UID != uid && p.Namespace == namespace {
			others = append(others, p.UID)
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(t.notes, "There were others of this name: %s\n", strings.Join(others[:min(len(others), mostNear)], ", "))
	}
}

// node is the node's name, by which static pods' names end; "" if no pod and no event tells it.
func (c *agentClient) node(ctx context.Context, all []v1.Pod) string {
	if len(all) > 0 {
		return all[0].Spec.NodeName
	}
	list, err := c.events(ctx)
	if err != nil {
		return ""
	}
	for i := range list.Items {
		if host := list.Items[i].Source.Host; host != "" {
			return host
		}
	}
	return ""
}

func (t *tracer) print() error {
	t.options.Now = time.Now()
	own := timeline.Of(t.events, t.uid)
	switch t.flags.format {
	case "json":
		own = slices.DeleteFunc(own, func(e journal.Shown) bool { return over(&e).Before(t.options.Since) })
		return writeObject(t.out, t.flags.format, append([]journal.Shown{}, own...))
	case "chrome":
		own = slices.DeleteFunc(own, func(e journal.Shown) bool { return over(&e).Before(t.options.Since) })
		return json.NewEncoder(t.out).Encode(timeline.Chrome(own, t.uid, t.options.Now))
	}
	line := timeline.New(own, t.uid, t.options)
	if t.flags.gaps > 0 {
		line.Lines = slices.DeleteFunc(line.Lines, func(l timeline.Line) bool { return !l.Wait })
	}
	return line.Write(t.out)
}

// over is when an event, or the last of those that were merged in it, was over; the zero time's opposite if it is under way.
func over(e *journal.Shown) time.Time {
	switch {
	case e.TookNS < 0:
		return time.Unix(1<<40, 0)
	case e.Last != nil:
		return *e.Last
	}
	return e.Time.Add(time.Duration(e.TookNS))
}

// journal reads all that the agent remembers.
func (c *agentClient) journal(ctx context.Context) ([]journal.Shown, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.get(ctx, c.url(nil, server.JournalPath))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []journal.Shown
	for in := json.NewDecoder(resp.Body); ; {
		var e journal.Shown
		switch err := in.Decode(&e); {
		case errors.Is(err, io.EOF):
			return all, nil
		case isCanceled(ctx):
			return nil, interrupted
		case err != nil:
			return nil, fmt.Errorf("%s does not answer %s as an agent does: %w", c.where, server.JournalPath, err)
		}
		all = append(all, e)
	}
}

// pause is how long changes are collected before they are printed, and slow after which time what is under way is told.
const (
	pause = 100 * time.Millisecond
	slow  = time.Second
)

// follow prints the lines that there are and those that come, until ctx ends.
func (t *tracer) follow(ctx context.Context) error {
	var version uint64
	for _, e := range t.events {
		version = max(version, e.Version)
	}
	group, ctx := errgroup.WithContext(ctx)
	resp, err := t.client.get(ctx, t.client.url(url.Values{"watch": {"true"}, "from": {fmt.Sprint(version)}}, server.JournalPath))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	changes := make(chan journal.Shown)
	group.Go(func() error { return receive(ctx, resp.Body, changes) })
	group.Go(func() error { return t.printChanges(changes) })
	return group.Wait()
}

// receive hands on the events of a stream, until it or ctx ends, and closes changes then.
func receive(ctx context.Context, stream io.Reader, changes chan<- journal.Shown) error {
	defer close(changes)
	for in := json.NewDecoder(stream); ; {
		var e journal.Shown
		switch err := in.Decode(&e); {
		case ctx.Err() != nil:
			return interrupted
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the agent has ended")
		case err != nil:
			return fmt.Errorf("read the journal: %w", err)
		}
		select {
		case changes <- e:
		case <-ctx.Done():
			return interrupted
		}
	}
}

// printChanges prints what is new each time that some changes were collected, until there are no more.
func (t *tracer) printChanges(changes <-chan journal.Shown) error {
	p := &linePrinter{out: t.out, printed: map[lineKey]bool{}}
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for more := true; ; {
		t.options.Now = time.Now()
		changed := false
		line := timeline.New(timeline.Of(t.events, t.uid), t.uid, t.options)
		if t.options.Began.IsZero() { // what it is may be forgotten before long
			t.options.Began = line.Began
			p.line(line.Header())
		}
		if err := p.print(line.Lines, t.flags.gaps > 0); err != nil || !more {
			return err
		}
		for collecting := true; collecting && more; {
			var e journal.Shown
			select {
			case e, more = <-changes:
				if more {
					t.events, changed = remember(t.events, e), true
				}
			case <-ticker.C:
				collecting = !changed && time.Since(t.options.Now) < slow
			}
		}
	}
}

// remember puts an event, or what has become of one, in its place. Those that the agent has forgotten are dropped.
func remember(events []journal.Shown, e journal.Shown) []journal.Shown {
	i, known := slices.BinarySearchFunc(events, e.Seq, func(o journal.Shown, seq uint64) int { return cmp.Compare(o.Seq, seq) })
	if known {
		events[i] = e
		return events
	}
	events = slices.Insert(events, i, e)
	if len(events) >= 2*journal.Capacity {
		events = slices.Delete(events, 0, len(events)-journal.Capacity)
	}
	return events
}

// lineKey is what a line is told once for.
type lineKey struct {
	seq      uint64
	layer    string
	end      bool
	underWay bool
}

// linePrinter prints lines as they come to be certain: the text of what is under way may still change.
type linePrinter struct {
	out     io.Writer
	printed map[lineKey]bool // of the lines that there are
	err     error
}

func (p *linePrinter) line(text any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.out, text)
	}
}

func (p *linePrinter) print(lines []timeline.Line, waits bool) error {
	now := make(map[lineKey]bool, len(lines))
	for _, l := range lines {
		if waits && !l.Wait || l.UnderWay && !l.Whole && l.Took < slow {
			continue
		}
		k := lineKey{l.Seq, l.Layer, l.End, l.UnderWay && !l.Whole}
		if now[k] = true; !p.printed[k] {
			p.line(l)
		}
	}
	p.printed = now
	return p.err
}

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
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

const eventsHelp = `List what happened to the node and its pods lately, the oldest first. The agent remembers
the last events; on a standalone node also those from before it was started.`

func newEventsCommand() *cobra.Command {
	var f podFlags
	var format string
	var watch, noHeaders bool
	var kinds []string
	cmd := &cobra.Command{
		Use:   "events [POD]",
		Short: "List what happened to the node and its pods lately",
		Long:  eventsHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			wanted := eventFilter{namespace: f.namespace, kinds: kinds}
			if len(args) == 1 {
				if wanted.pod, err = f.podOrFormer(cmd.Context(), c, args[0]); err != nil {
					return err
				}
			}
			p := &eventPrinter{out: cmd.OutOrStdout(), format: format, bare: noHeaders}
			if watch {
				return c.watchEvents(cmd.Context(), wanted, p)
			}
			list, err := c.events(cmd.Context())
			if err != nil {
				return err
			}
			list.Items = slices.DeleteFunc(list.Items, func(e v1.Event) bool { return !wanted.has(&e) })
			if format == "" && len(list.Items) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No events found.")
				return nil
			}
			return p.list(list, time.Now())
		},
	}
	f.addTo(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print also what comes")
	cmd.Flags().BoolVar(&noHeaders, "no-headers", false, "only the lines below the header")
	cmd.Flags().StringSliceVar(&kinds, "types", nil, "only events of these types: Normal, Warning")
	addOutputFlag(cmd, &format, "json", "yaml")
	return cmd
}

func (c *agentClient) events(ctx context.Context) (*v1.EventList, error) {
	list := &v1.EventList{}
	return list, c.getJSON(ctx, list, c.url(nil, server.EventsPath))
}

// podOrFormer recognises events of a pod that there is or was: events outlive it.
func (f *podFlags) podOrFormer(ctx context.Context, c *agentClient, name string) (func(*v1.Event) bool, error) {
	named := func(name string) func(*v1.Event) bool {
		return func(e *v1.Event) bool { return e.InvolvedObject.Kind == "Pod" && e.InvolvedObject.Name == name }
	}
	_, p, missing := f.find(ctx, name)
	if missing == nil {
		return func(e *v1.Event) bool { return named(p.Name)(e) && e.InvolvedObject.Namespace == p.Namespace }, nil
	}
	list, err := c.events(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		e := &list.Items[i]
		for _, former := range []string{name, name + "-" + e.Source.Host} {
			if named(former)(e) && (f.namespace == "" || f.namespace == e.Namespace) {
				return named(former), nil
			}
		}
	}
	return nil, missing
}

// eventFilter says which events are wanted.
type eventFilter struct {
	namespace string // "" is any
	pod       func(*v1.Event) bool
	kinds     []string
}

func (w *eventFilter) has(e *v1.Event) bool {
	return (w.namespace == "" || e.Namespace == w.namespace) && (w.pod == nil || w.pod(e)) &&
		(len(w.kinds) == 0 || slices.ContainsFunc(w.kinds, func(k string) bool { return strings.EqualFold(k, e.Type) }))
}

// watchEvents prints events until ctx ends.
func (c *agentClient) watchEvents(ctx context.Context, wanted eventFilter, p *eventPrinter) error {
	resp, err := c.get(ctx, c.url(url.Values{"watch": {"true"}}, server.EventsPath))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var change struct{ Object v1.Event }
		switch err := in.Decode(&change); {
		case ctx.Err() != nil:
			return interrupted
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the agent has ended")
		case err != nil:
			return fmt.Errorf("read the events: %w", err)
		}
		if !wanted.has(&change.Object) {
			continue
		}
		if err := p.one(&change.Object, time.Now()); err != nil {
			return err
		}
	}
}

// eventPrinter prints events in kubectl's columns, or as objects.
type eventPrinter struct {
	out    io.Writer
	format string
	bare   bool // without a header
}

var eventColumns = []string{"NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}

func (p *eventPrinter) list(list *v1.EventList, now time.Time) error {
	if p.format != "" {
		return writeObject(p.out, p.format, list)
	}
	slices.SortStableFunc(list.Items, func(a, b v1.Event) int { return cmp.Compare(a.LastTimestamp.UnixNano(), b.LastTimestamp.UnixNano()) })
	var rows [][]string
	for i := range list.Items {
		rows = append(rows, eventRow(&list.Items[i], now))
	}
	header := eventColumns
	if p.bare {
		header = nil
	}
	return writeTable(p.out, header, rows)
}

// one prints an event of a stream, with the header before the first one.
func (p *eventPrinter) one(e *v1.Event, now time.Time) error {
	if p.format == "yaml" {
		fmt.Fprintln(p.out, "---")
	}
	if p.format != "" {
		return writeObject(p.out, p.format, e)
	}
	header := eventColumns
	if p.bare {
		header = nil
	}
	p.bare = true
	return writeTable(p.out, header, [][]string{eventRow(e, now)})
}

func eventRow(e *v1.Event, now time.Time) []string {
	seen := since(e.LastTimestamp.Time, now)
	if e.Count > 1 {
		seen = fmt.Sprintf("%s (x%d over %s)", seen, e.Count, since(e.FirstTimestamp.Time, now))
	}
	return []string{e.Namespace, seen, e.Type, e.Reason, e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, strings.TrimSpace(e.Message)}
}

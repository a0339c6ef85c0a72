package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

const podsTimeout = 30 * time.Second

func newPodsCommand() *cobra.Command {
	var reach connection
	var namespace, format string
	cmd := &cobra.Command{
		Use:   "pods [NAME]",
		Short: "List the pods that the agent runs, with their statuses",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), podsTimeout)
			defer cancel()
			list, err := reach.pods(ctx)
			if err != nil {
				return err
			}
			list.Items = slices.DeleteFunc(list.Items, func(p v1.Pod) bool {
				return namespace != "" && p.Namespace != namespace
			})
			if len(args) == 1 {
				p, err := findPod(list.Items, namespace, args[0])
				if err != nil {
					return err
				}
				list.Items = []v1.Pod{*p}
			}
			return printPods(cmd.OutOrStdout(), cmd.ErrOrStderr(), list, format, len(args) == 1, time.Now())
		},
	}
	reach.addTo(cmd)
	cmd.Flags().Lookup("server").Usage = "address of the agent's kubelet API, or of its read-only port; when empty, the agent's socket, else " + readOnlyPort
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the pods; all when empty")
	addOutputFlag(cmd, &format, "wide", "json", "yaml", "name")
	return cmd
}

// readOnlyPort is where everybody of this machine can read what a standalone agent runs, unless it is
// configured otherwise.
const readOnlyPort = "http://127.0.0.1:10255"

// pods asks the agent for its pods: as it was told, else by the socket, else at the read-only port,
// for which nobody has to be root.
func (c *connection) pods(ctx context.Context) (*v1.PodList, error) {
	if strings.HasPrefix(c.server, "http://") {
		return fetchPods(ctx, c.server)
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	list, err := client.pods(ctx)
	if err == nil || c.server != "" || ctx.Err() != nil {
		return list, err
	}
	// It may be that of another agent, if this one has directories of its own.
	if c.rootDir == config.DefaultRootDir {
		if list, openErr := fetchPods(ctx, readOnlyPort); openErr == nil {
			return list, nil
		}
	}
	return nil, err
}

// fetchPods asks the agent's read-only port for its pods.
func fetchPods(ctx context.Context, server string) (*v1.PodList, error) {
	server = strings.TrimSuffix(server, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/pods", nil)
	if err != nil {
		return nil, fmt.Errorf("--server %s: %w", server, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no agent answers at %s: start mini-kubelet, or give its read-only port with --server", server)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the agent for its pods: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return nil, fmt.Errorf("%s/pods answers %s: %s", server, resp.Status, strings.TrimSpace(string(text)))
	}
	list := &v1.PodList{}
	if err := json.NewDecoder(resp.Body).Decode(list); err != nil {
		return nil, fmt.Errorf("%s/pods does not answer with a list of pods: %w", server, err)
	}
	return list, nil
}

func printPods(out, errOut io.Writer, list *v1.PodList, format string, single bool, now time.Time) error {
	slices.SortFunc(list.Items, func(a, b v1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	switch format {
	case "json", "yaml":
		list.Kind, list.APIVersion = "PodList", "v1"
		for i := range list.Items {
			list.Items[i].Kind, list.Items[i].APIVersion = "Pod", "v1"
		}
		if single && len(list.Items) == 1 {
			return writeObject(out, format, &list.Items[0])
		}
		return writeObject(out, format, list)
	case "name":
		for i := range list.Items {
			fmt.Fprintf(out, "pod/%s\n", visible.Text(list.Items[i].Name))
		}
		return nil
	}
	if len(list.Items) == 0 {
		fmt.Fprintln(errOut, "The agent runs no pods.")
		return nil
	}
	header := []string{"NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"}
	if format == "wide" {
		header = append(header, "QOS", "IMAGES")
	}
	var rows [][]string
	for i := range list.Items {
		rows = append(rows, podRow(&list.Items[i], format == "wide", now))
	}
	return writeTable(out, header, rows)
}

func podRow(p *v1.Pod, wide bool, now time.Time) []string {
	s := summarise(p)
	restarts := fmt.Sprint(s.restarts)
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts += fmt.Sprintf(" (%s ago)", since(s.lastRestart, now))
	}
	// A static pod has no creation time if no API server created one.
	born := p.CreationTimestamp.Time
	if born.IsZero() && p.Status.StartTime != nil {
		born = p.Status.StartTime.Time
	}
	row := []string{
		p.Namespace, p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.status, restarts,
		since(born, now), p.Status.PodIP, p.Spec.NodeName,
	}
	if wide {
		var images []string
		for _, c := range p.Spec.Containers {
			images = append(images, c.Image)
		}
		row = append(row, string(p.Status.QOSClass), strings.Join(images, ","))
	}
	return row
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func newPsCommand() *cobra.Command {
	var endpoint, format string
	var all bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the containers of pods, as the container runtime has them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCRI(cmd.Context(), endpoint, func(ctx context.Context, conn *grpc.ClientConn) error {
				req := &cri.ListContainersRequest{}
				if !all {
					req.Filter = &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}}
				}
				resp, err := cri.NewRuntimeServiceClient(conn).ListContainers(ctx, req)
				if err != nil {
					return err
				}
				return printContainers(cmd.OutOrStdout(), resp.Containers, format, time.Now())
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that do not run")
	cmd.Flags().StringVar(&endpoint, "runtime-endpoint", config.DefaultDockershimSocket, "CRI socket of the container runtime")
	addOutputFlag(cmd, &format, "json", "yaml")
	return cmd
}

func printContainers(out io.Writer, list []*cri.Container, format string, now time.Time) error {
	slices.SortFunc(list, func(a, b *cri.Container) int { // newest first, as docker ps
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(a.Id, b.Id))
	})
	if format != "" {
		return writeCRI(out, format, "containers", list)
	}
	var rows [][]string
	for _, c := range list {
		rows = append(rows, []string{
			shortID(c.Id), containerImage(c), since(time.Unix(0, c.CreatedAt), now) + " ago", stateWord(c.State),
			c.GetMetadata().GetName(), fmt.Sprint(c.GetMetadata().GetAttempt()), shortID(c.PodSandboxId),
			c.Labels[pods.LabelPodNamespace] + "/" + c.Labels[pods.LabelPodName],
		})
	}
	return writeTable(out, []string{"CONTAINER ID", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "SANDBOX ID", "POD"}, rows)
}

// containerImage is the image as the pod named it, if the runtime still knows;
// otherwise what the name was resolved to.
func containerImage(c *cri.Container) string {
	img := c.GetImage()
	name := cmp.Or(img.GetUserSpecifiedImage(), img.GetImage(), c.ImageRef)
	if strings.HasPrefix(name, "sha256:") {
		return shortID(name)
	}
	return name
}

func stateWord(s cri.ContainerState) string {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return "Created"
	case cri.ContainerState_CONTAINER_RUNNING:
		return "Running"
	case cri.ContainerState_CONTAINER_EXITED:
		return "Exited"
	}
	return "Unknown"
}

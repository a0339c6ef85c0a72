package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func newImagesCommand() *cobra.Command {
	var endpoint, format string
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List the images that the container runtime has",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCRI(cmd.Context(), endpoint, func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := cri.NewImageServiceClient(conn).ListImages(ctx, &cri.ListImagesRequest{})
				if err != nil {
					return err
				}
				return printImages(cmd.OutOrStdout(), resp.Images, format)
			})
		},
	}
	cmd.Flags().StringVar(&endpoint, "runtime-endpoint", config.DefaultDockershimSocket, "CRI socket of the container runtime")
	addOutputFlag(cmd, &format, "json", "yaml")
	return cmd
}

func printImages(out io.Writer, list []*cri.Image, format string) error {
	if format != "" {
		slices.SortFunc(list, func(a, b *cri.Image) int { return cmp.Compare(a.Id, b.Id) })
		return writeCRI(out, format, "images", list)
	}
	var rows [][]string
	for _, img := range list {
		for _, name := range imageNames(img) {
			pinned := "no"
			if img.Pinned {
				pinned = "yes"
			}
			rows = append(rows, []string{name[0], name[1], shortID(img.Id), humanSize(img.Size), pinned})
		}
	}
	slices.SortFunc(rows, func(a, b []string) int { return slices.Compare(a[:3], b[:3]) })
	return writeTable(out, []string{"REPOSITORY", "TAG", "IMAGE ID", "SIZE", "PINNED"}, rows)
}

// imageNames returns one repository and tag per name of the image; an image without
// a tag is shown with its digest's repository, as docker images does.
func imageNames(img *cri.Image) [][2]string {
	var names [][2]string
	for _, t := range img.RepoTags {
		// The last colon separates the tag, unless it belongs to a registry's port.
		if i := strings.LastIndexByte(t, ':'); i > strings.LastIndexByte(t, '/') {
			names = append(names, [2]string{t[:i], t[i+1:]})
		} else {
			names = append(names, [2]string{t, ""})
		}
	}
	if len(names) == 0 && len(img.RepoDigests) > 0 {
		repo, _, _ := strings.Cut(img.RepoDigests[0], "@")
		names = append(names, [2]string{repo, ""})
	}
	if len(names) == 0 {
		names = append(names, [2]string{})
	}
	return names
}

// writeCRI writes messages of the CRI API in their own JSON form under one key, as
// crictl does.
func writeCRI[M proto.Message](out io.Writer, format, key string, list []M) error {
	items := make([]json.RawMessage, len(list))
	for i, m := range list {
		text, err := protojson.Marshal(m)
		if err != nil {
			return err
		}
		items[i] = text
	}
	return writeObject(out, format, map[string]any{key: items})
}

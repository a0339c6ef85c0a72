package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
)

func newPortForwardCommand() *cobra.Command {
	var f podFlags
	var addresses []string
	cmd := &cobra.Command{
		Use:   "port-forward POD [LOCAL:]REMOTE [...]",
		Short: "Forward ports of this machine to ports of a pod",
		Long: "Forward ports of this machine to ports of a pod, until it is ended. REMOTE is a number or the name of\n" +
			"a port of the pod; without LOCAL it is the local port, too, and with :REMOTE any that is free.",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, pod, err := f.find(ctx, args[0])
			if err != nil {
				return err
			}
			if pod.Status.Phase != v1.PodRunning {
				return fmt.Errorf("unable to forward port because pod is not running. Current status=%v", pod.Status.Phase)
			}
			ports, err := portNumbers(pod, args[1:])
			if err != nil {
				return err
			}
			d, err := c.dialer(c.url(nil, "portForward", pod.Namespace, pod.Name))
			if err != nil {
				return err
			}
			stop := make(chan struct{})
			defer context.AfterFunc(ctx, func() { close(stop) })()
			pf, err := portforward.NewOnAddresses(d, addresses, ports, stop, make(chan struct{}), cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return c.ofStream(untilInterrupted(ctx, pf.ForwardPorts))
		},
	}
	cmd.Flags().StringSliceVar(&addresses, "address", []string{"localhost"}, "addresses to listen on, separated by commas: IP addresses or localhost")
	f.addTo(cmd)
	return cmd
}

// portNumbers puts numbers in the place of the names of the pod's ports.
func portNumbers(pod *v1.Pod, specs []string) ([]string, error) {
	var all []string
	for _, spec := range specs {
		local, remote, both := strings.Cut(spec, ":")
		if !both {
			remote = local
		}
		number, err := portNumber(pod, remote)
		if err != nil {
			return nil, err
		}
		if !both {
			local = number
		}
		all = append(all, local+":"+number)
	}
	return all, nil
}

func portNumber(pod *v1.Pod, port string) (string, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		return port, nil
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, p := range c.Ports {
			if p.Name != "" && p.Name == port {
				return strconv.Itoa(int(p.ContainerPort)), nil
			}
		}
	}
	if port == "" {
		return "", errors.New("a port of the pod is missing: want LOCAL:REMOTE")
	}
	return "", fmt.Errorf("pod %s has no port %q", pod.Name, port)
}

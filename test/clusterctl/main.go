// Command clusterctl runs a real control plane on this machine and makes the
// machine a node of it: `make cluster-up`, `make join`, `make cluster-down`.
//
//	clusterctl [flags] build | up | join | leave | down
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clusterctl:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("clusterctl", flag.ContinueOnError)
	dir := fs.String("dir", "bin/cluster", "directory of the control plane's state")
	module := fs.String("module", "test/cluster", "Go module that the programs are built from")
	address := fs.String("address", controlplane.HostAddress(), "address of the API server")
	port := fs.Int("port", 6443, "port of the API server; the four after it are taken as well")
	agent := fs.String("agent", "bin/mini-kubelet", "with join: the agent")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return errors.New("want one of build, up, join, leave, down")
	}
	if fs.Arg(0) == "build" {
		return controlplane.Build(ctx, *module, os.Stderr)
	}
	c, err := controlplane.New(controlplane.Config{Dir: *dir, Address: *address, Port: *port})
	if err != nil {
		return err
	}
	// No CNI DaemonSet comes into this cluster: its one node has Docker's network.
	machine := controlplane.Machine{Agent: *agent, Dir: filepath.Join(*dir, "node"), Args: []string{"--network-plugin", "docker"}}
	switch fs.Arg(0) {
	case "up":
		if err := c.Start(ctx); err != nil {
			return err
		}
		fmt.Printf("The control plane is up. To use it:\n  export KUBECONFIG=%s\n  export PATH=$PATH:%s   # kubectl\n", c.Kubeconfig(), filepath.Dir(c.Program("kubectl")))
		return nil
	case "join":
		if err := c.Join(ctx, machine, os.Stdout); err != nil {
			return err
		}
		fmt.Println("This machine is a node of the cluster. `make cluster-down` undoes that.")
		return nil
	case "leave":
		return c.Leave(ctx, machine, os.Stdout)
	case "down":
		if err := c.Leave(ctx, machine, os.Stdout); err != nil {
			return err // what is left to undo is on record in the directory
		}
		return c.Remove()
	}
	return fmt.Errorf("unknown command %q", fs.Arg(0))
}

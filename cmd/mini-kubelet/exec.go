package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// processFlags are those that exec and attach share.
type processFlags struct {
	podFlags
	container         string
	stdin, tty, quiet bool
}

func (f *processFlags) addTo(cmd *cobra.Command) {
	f.podFlags.addTo(cmd)
	cmd.Flags().StringVarP(&f.container, "container", "c", "", "container of the pod; the first when empty, or the one that its annotation "+defaultContainer+" names")
	cmd.Flags().BoolVarP(&f.stdin, "stdin", "i", false, "pass on standard input")
	cmd.Flags().BoolVarP(&f.tty, "tty", "t", false, "standard input is a terminal")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only what the process in the container prints")
}

// note tells the user something that is no error.
func (f *processFlags) note(out io.Writer, text string) {
	if text != "" && !f.quiet {
		fmt.Fprintln(out, text)
	}
}

// attach returns what the process is connected to. Only a terminal can be one for a command in the container.
func (f *processFlags) attach(raw streams, errOut io.Writer) *attached {
	tty := f.tty && f.stdin
	if tty && !isTerminal(raw.in) {
		f.note(errOut, "Unable to use a TTY - input is not a terminal or the right kind of file")
		tty = false
	}
	return &attached{streams: raw, stdin: f.stdin, tty: tty, raw: tty, quiet: f.quiet}
}

// query names the streams as the kubelet API does.
func (a *attached) query() url.Values {
	q := url.Values{"output": {"1"}}
	if !a.tty {
		q.Set("error", "1")
	} else {
		q.Set("tty", "1")
	}
	if a.stdin {
		q.Set("input", "1")
	}
	return q
}

// runsIn makes it fit what runs in a container already, on a terminal or not. It returns what to tell the user.
func (a *attached) runsIn(pod *v1.Pod, container string) (note string) {
	spec, _ := pods.Container(pod, container)
	a.tty = spec != nil && spec.TTY
	if a.raw && !a.tty {
		a.raw = false
		return "error: Unable to use a TTY - container " + container + " did not allocate one"
	}
	return ""
}

func newExecCommand(raw streams) *cobra.Command {
	var f processFlags
	cmd := &cobra.Command{
		Use:   "exec POD [-c CONTAINER] -- COMMAND [ARGS...]",
		Short: "Run a command in a container of a pod",
		Long:  "Run a command in a container of a pod. It ends with the command's exit code.",
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return errors.New("want one POD, and after -- the command: mini-kubelet exec POD -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, pod, err := f.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := podIsOver(pod, "exec into a container in"); err != nil {
				return err
			}
			container, note, err := chooseContainer(pod, f.container)
			if err != nil {
				return err
			}
			f.note(cmd.ErrOrStderr(), note)
			a := f.attach(raw, cmd.ErrOrStderr())
			q := a.query()
			q["command"] = args[1:]
			e, err := c.executor(c.url(q, "exec", pod.Namespace, pod.Name, container))
			if err != nil {
				return err
			}
			return c.ofStream(a.stream(cmd.Context(), e))
		},
	}
	f.addTo(cmd)
	return cmd
}

func newAttachCommand(raw streams) *cobra.Command {
	var f processFlags
	cmd := &cobra.Command{
		Use:   "attach POD [-c CONTAINER]",
		Short: "Connect to the streams of a container that runs",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, pod, err := f.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := podIsOver(pod, "attach a container in"); err != nil {
				return err
			}
			container, note, err := chooseContainer(pod, f.container)
			if err != nil {
				return err
			}
			f.note(cmd.ErrOrStderr(), note)
			a := f.attach(raw, cmd.ErrOrStderr())
			f.note(cmd.ErrOrStderr(), a.runsIn(pod, container))
			if a.raw {
				f.note(cmd.ErrOrStderr(), "If you don't see a command prompt, try pressing enter.")
			}
			e, err := c.executor(c.url(a.query(), "attach", pod.Namespace, pod.Name, container))
			if err != nil {
				return err
			}
			return c.ofStream(a.stream(cmd.Context(), e))
		},
	}
	f.addTo(cmd)
	return cmd
}

// podIsOver returns an error if nothing of the pod will run again.
func podIsOver(pod *v1.Pod, to string) error {
	if pods.IsFinished(pod.Status.Phase) {
		return fmt.Errorf("cannot %s a completed pod; current phase is %s", to, pod.Status.Phase)
	}
	return nil
}

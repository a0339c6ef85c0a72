package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	v1 "k8s.io/api/core/v1"
)

// matches compares a text with an expected one: a regular expression between
// slashes, or the text itself. The empty one expects nothing.
func matches(text, want string) error {
	text, want = strings.TrimSpace(text), strings.TrimSpace(want)
	if want == "" {
		return nil
	}
	if len(want) > 1 && want[0] == '/' && want[len(want)-1] == '/' {
		re, err := regexp.Compile("(?m)" + want[1:len(want)-1])
		if err != nil {
			return err
		}
		if !re.MatchString(text) {
			return fmt.Errorf("%q, want %s", text, want)
		}
		return nil
	}
	if text != want {
		return fmt.Errorf("%q, want %q", text, want)
	}
	return nil
}

// answer compares a shell's output. Its exit code counts only if no output is
// expected.
func answer(question, out string, err error, want string) error {
	if want == "" && err != nil {
		return fmt.Errorf("%s: %w: %s", question, err, out)
	}
	if wrong := matches(out, want); wrong != nil {
		return fmt.Errorf("%s: %w (%v)", question, wrong, err)
	}
	return nil
}

// status compares a pod's status.
func (r *runner) status(w podWant, pod *v1.Pod, known map[string]string) error {
	s := &pod.Status
	var errs []error
	text := func(what, got, want string) {
		if err := matches(got, r.fill(want, known)); err != nil {
			errs = append(errs, fmt.Errorf("%s is %w", what, err))
		}
	}
	conditions := map[string]string{}
	for _, c := range s.Conditions {
		conditions[string(c.Type)] = string(c.Status)
	}
	text("phase", string(s.Phase), w.Phase)
	text("reason", s.Reason, w.Reason)
	text("message", s.Message, w.Message)
	text("qosClass", string(s.QOSClass), w.QoS)
	if w.Ready != nil {
		text("condition Ready", conditions["Ready"], map[bool]string{true: "True", false: "False"}[*w.Ready])
	}
	for name, want := range w.Conditions {
		text("condition "+name, conditions[name], want)
	}
	statuses := slices.Concat(s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses)
	for name, want := range w.Containers {
		i := slices.IndexFunc(statuses, func(s v1.ContainerStatus) bool { return s.Name == name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("container %s has no status", name))
			continue
		}
		got := &statuses[i]
		state, reason, message, code := describe(got.State)
		text(name+"'s state", state, want.State)
		text(name+"'s reason", reason, want.Reason)
		text(name+"'s message", message, want.Message)
		if want.ExitCode != nil && (state != "terminated" || *want.ExitCode != code) {
			errs = append(errs, fmt.Errorf("%s is %s with exit code %d, want %d", name, state, code, *want.ExitCode))
		}
		if want.Ready != nil && got.Ready != *want.Ready {
			errs = append(errs, fmt.Errorf("%s's ready is %v", name, got.Ready))
		}
		if got.RestartCount < want.Restarts {
			errs = append(errs, fmt.Errorf("%s has %d restarts, want %d", name, got.RestartCount, want.Restarts))
		}
		if len(want.Log) == 0 {
			continue
		}
		log := r.log(pod, name)
		for _, line := range want.Log {
			if err := logged(log, r.fill(line, known)); err != nil {
				errs = append(errs, fmt.Errorf("log of %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func describe(s v1.ContainerState) (state, reason, message string, exitCode int32) {
	switch {
	case s.Waiting != nil:
		return "waiting", s.Waiting.Reason, s.Waiting.Message, 0
	case s.Running != nil:
		return "running", "", "", 0
	case s.Terminated != nil:
		return "terminated", s.Terminated.Reason, s.Terminated.Message, s.Terminated.ExitCode
	}
	return "", "", "", 0
}

// logged looks for a line, or for a regular expression anywhere.
func logged(log, want string) error {
	if strings.HasPrefix(want, "/") && strings.HasSuffix(want, "/") {
		if matches(log, want) != nil {
			return fmt.Errorf("no %s", want)
		}
		return nil
	}
	if !slices.Contains(strings.Split(log, "\n"), want) {
		return fmt.Errorf("no line %q", want)
	}
	return nil
}

// log returns what a container has written, in all runs whose logs still exist.
func (r *runner) log(pod *v1.Pod, name string) string {
	files, _ := filepath.Glob(filepath.Join(r.at.agent().Dir, "logs", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID), name, "*.log"))
	var b strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4); len(f) == 4 {
				b.WriteString(f[3])
				if f[2] == "F" {
					b.WriteString("\n")
				}
			}
		}
	}
	return b.String()
}

// hasEvent checks whether a pod has an event.
func (r *runner) hasEvent(ctx context.Context, pod *v1.Pod, want eventWant, known map[string]string) error {
	all, err := r.at.events(ctx, pod)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.reason == want.Reason && matches(e.message, r.fill(want.Message, known)) == nil {
			return nil
		}
	}
	return fmt.Errorf("no event %s %s among %q", want.Reason, want.Message, all)
}

// placeInFile is a line of a manifest.
var placeInFile = regexp.MustCompile(`\.yaml:[1-9][0-9]*$`)

// why compares what is said of a pod, all in all.
func (r *runner) why(ctx context.Context, pod *v1.Pod, want string, known map[string]string) error {
	report, err := r.at.agent().Why(ctx, pod.Namespace, pod.Name)
	if err != nil {
		return err
	}
	var said []string
	for _, f := range report.Findings {
		said = append(said, f.Sentence(time.Now()))
	}
	switch {
	case want == "" && len(said) > 0:
		return fmt.Errorf("why says, though nothing was expected: %q", said)
	case want == "":
		return nil
	case len(said) != 1:
		return fmt.Errorf("why says %q, want one sentence", said)
	case report.Findings[0].Fix == "":
		return fmt.Errorf("why says %q, and nothing that mends it", said)
	}
	if _, files := r.at.(standalone); files && !placeInFile.MatchString(report.Findings[0].Where) {
		return fmt.Errorf("why says %q, and no line of a file but %q", said, report.Findings[0].Where)
	}
	if err := matches(said[0], r.fill(want, known)); err != nil {
		return fmt.Errorf("why says %w", err)
	}
	return nil
}

// inside runs shell lines in a container.
func (r *runner) inside(ctx context.Context, id, lines string) (string, error) {
	docker := r.at.agent().Docker.Client
	made, err := docker.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: []string{"/bin/sh", "-c", lines}, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return "", err
	}
	stream, err := docker.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil {
		return out.String(), err
	}
	done, err := docker.ContainerExecInspect(ctx, made.ID)
	if err == nil && done.ExitCode != 0 {
		err = fmt.Errorf("exit code %d", done.ExitCode)
	}
	return out.String(), err
}

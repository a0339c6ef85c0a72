package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// executors are the two ways in which kubelets and clients stream.
var executors = map[string]func(*url.URL) (remotecommand.Executor, error){
	"SPDY": func(u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, u)
	},
	"WebSocket": func(u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, u.String())
	},
}

// ways are the executors that the runtime speaks.
func (r *runtime) ways() []string {
	if r.isDockershim() {
		return []string{"SPDY", "WebSocket"}
	}
	return []string{"SPDY"} // version 5 of the protocol is newer than containerd 1.6
}

func (r *runtime) stream(way, address string, options remotecommand.StreamOptions) error {
	r.t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		r.t.Fatalf("URL %q: %v, want http://host:port/...", address, err)
	}
	e, err := executors[way](u)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), harness.Patience)
	defer cancel()
	return e.StreamWithContext(ctx, options)
}

var streamCases = []testCase{
	{name: "exec synchronously", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		resp, err := r.exec(p.ctr, 120, "sh", "-c", "echo out; echo err >&2; exit 5")
		if err != nil || string(resp.Stdout) != "out\n" || string(resp.Stderr) != "err\n" || resp.ExitCode != 5 {
			t.Errorf("%v, %v", resp, err)
		}
	}},
	{name: "exec that takes too long is killed", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		_, err := r.exec(p.ctr, 1, "sh", "-c", "echo started > /tmp/started; sleep 4321")
		wantCode(t, "exec", err, codes.DeadlineExceeded)
		harness.Eventually(t, "its processes are gone", harness.Patience, func() error {
			if strings.Contains(r.mustExec(p.ctr, "ps"), "4321") {
				return errors.New("it still runs")
			}
			return nil
		})
	}},
	{name: "exec's output is bounded", run: func(t *testing.T, r *runtime) {
		if !r.isDockershim() {
			t.Skip("containerd 1.6 sends more than a message can hold")
		}
		p := r.pod(forever)
		resp, err := r.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: p.ctr, Cmd: []string{"sh", "-c", "head -c 20000000 /dev/zero"}, Timeout: 120})
		if err == nil && len(resp.Stdout) > 16<<20 {
			t.Errorf("%d bytes", len(resp.Stdout))
		}
		if err != nil {
			wantCode(t, "exec", err, codes.ResourceExhausted)
		}
	}},
	{name: "exec in what does not run", run: func(t *testing.T, r *runtime) {
		p := r.pod("true")
		r.exited(p.ctr)
		if _, err := r.exec(p.ctr, 1, "true"); err == nil {
			t.Error("no error")
		}
	}},
	{name: "exec streams both ways, with the exit code", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		for _, way := range r.ways() {
			resp, err := r.Exec(t.Context(), &cri.ExecRequest{ContainerId: p.ctr, Cmd: []string{"sh", "-c", "cat; echo end >&2; exit 3"}, Stdin: true, Stdout: true, Stderr: true})
			if err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			err = r.stream(way, resp.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: &errOut})
			var exit utilexec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 3 || out.String() != "hello\n" || errOut.String() != "end\n" {
				t.Errorf("%s: %q, %q, %v", way, out.String(), errOut.String(), err)
			}
			if r.isDockershim() {
				if err := r.stream(way, resp.Url, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
					t.Errorf("%s: the URL works twice", way)
				}
			}
		}
	}},
	{name: "exec with a terminal", only: "dockershim", why: "containerd 1.6 ends the session with its input, at times before its output", run: func(t *testing.T, r *runtime) {
		p := r.pod(forever)
		for _, way := range r.ways() {
			resp, err := r.Exec(t.Context(), &cri.ExecRequest{ContainerId: p.ctr, Cmd: []string{"sh", "-c", "test -t 0 && echo terminal"}, Stdin: true, Stdout: true, Tty: true})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := r.stream(way, resp.Url, remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true}); err != nil || strings.TrimSpace(out.String()) != "terminal" {
				t.Errorf("%s: %q, %v", way, out.String(), err)
			}
		}
	}},
	{name: "attach", run: func(t *testing.T, r *runtime) {
		for _, way := range r.ways() {
			p := r.pod("while read line; do echo got $line; done", func(c *cri.ContainerConfig) { c.Stdin, c.StdinOnce = true, true })
			resp, err := r.Attach(t.Context(), &cri.AttachRequest{ContainerId: p.ctr, Stdin: true, Stdout: true, Stderr: true})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := r.stream(way, resp.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("a\nb\n"), Stdout: &out, Stderr: io.Discard}); err != nil || out.String() != "got a\ngot b\n" {
				t.Errorf("%s: %q, %v", way, out.String(), err)
			}
			r.exited(p.ctr) // its input ended with the client
		}
	}},
	{name: "port-forward", run: func(t *testing.T, r *runtime) {
		p := r.pod("mkdir -p /tmp/www; echo hello > /tmp/www/index.html; httpd -f -p 127.0.0.1:8090 -h /tmp/www")
		// A client's tunnel ends with the first connection that is refused.
		harness.Eventually(t, "the server listens", harness.Patience, func() error {
			resp, err := r.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: p.ctr, Cmd: []string{"/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8090/"}, Timeout: 5})
			if err == nil && resp.ExitCode != 0 {
				err = fmt.Errorf("exit code %d: %s", resp.ExitCode, resp.Stderr)
			}
			return err
		})
		resp, err := r.PortForward(t.Context(), &cri.PortForwardRequest{PodSandboxId: p.id, Port: []int32{8090}})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(resp.Url)
		if err != nil {
			t.Fatal(err)
		}
		roundTripper, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		stop, ready := make(chan struct{}), make(chan struct{})
		f, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, u), []string{"0:8090"}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- f.ForwardPorts() }()
		defer func() { close(stop); <-done }()
		select {
		case <-ready:
		case err := <-done:
			done <- err
			t.Fatal(err)
		case <-time.After(harness.Patience):
			t.Fatal("not ready")
		}
		ports, err := f.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the server answers through the tunnel", harness.Patience, func() error {
			c := http.Client{Timeout: harness.Patience} // to give up may end the tunnel
			resp, err := c.Get("http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[0].Local)) + "/")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello\n" {
				return fmt.Errorf("%q, %v", text, err)
			}
			return nil
		})
	}},
}

// nextEvents collects events of a sandbox until want events have arrived.
func (r *runtime) nextEvents(stream cri.RuntimeService_GetContainerEventsClient, uid string, want int) []string {
	r.t.Helper()
	var got []string
	for len(got) < want {
		e, err := stream.Recv()
		if err != nil {
			r.t.Fatalf("events so far %v: %v", got, err)
		}
		if e.PodSandboxStatus.GetMetadata().GetUid() != uid {
			continue
		}
		if e.ContainerEventType == cri.ContainerEventType_CONTAINER_STOPPED_EVENT {
			for _, c := range e.ContainersStatuses {
				if c.Id == e.ContainerId && c.State != cri.ContainerState_CONTAINER_EXITED {
					r.t.Errorf("with the end of a container it is told as %v", c)
				}
			}
		}
		who := "container"
		if e.ContainerId == e.PodSandboxStatus.Id {
			who = "sandbox"
		}
		got = append(got, who+" "+strings.TrimSuffix(strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
	}
	return got
}

var eventCases = []testCase{
	{name: "events of a pod's life, to every client", only: "dockershim", why: "containerd 1.6 has no events", run: func(t *testing.T, r *runtime) {
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		defer cancel()
		var streams []cri.RuntimeService_GetContainerEventsClient
		for range 2 {
			s, err := r.GetContainerEvents(ctx, &cri.GetEventsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Header(); err != nil { // subscribed
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		p := r.pod("true")
		r.exited(p.ctr)
		if _, err := r.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		want := "sandbox CREATED, sandbox STARTED, container CREATED, container STARTED, container STOPPED, sandbox STOPPED, container DELETED, sandbox DELETED"
		for _, s := range streams {
			if got := strings.Join(r.nextEvents(s, p.sandbox.Metadata.Uid, 8), ", "); got != want {
				t.Errorf("events %s, want %s", got, want)
			}
		}
	}},
	{name: "events survive a restart of Docker", only: "dockershim", why: "it concerns Docker", run: func(t *testing.T, r *runtime) {
		d := harness.StartDockerd(t, harness.DockerdConfig{})
		own := &runtime{harness.StartShim(t, d), t}
		p := own.pod(forever)
		ctx, cancel := context.WithTimeout(t.Context(), 2*harness.Patience)
		defer cancel()
		s, err := own.GetContainerEvents(ctx, &cri.GetEventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Header(); err != nil {
			t.Fatal(err)
		}
		d.Stop()
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		// Events of the start may still be on their way; the context bounds the wait.
		for missing := map[string]bool{"sandbox STOPPED": true, "container STOPPED": true}; len(missing) > 0; {
			delete(missing, own.nextEvents(s, p.sandbox.Metadata.Uid, 1)[0])
		}
	}},
}

var imageCases = []testCase{
	{name: "images: pull by tag and digest, identity, removal", run: func(t *testing.T, r *runtime) {
		registry := harness.StartRegistry(t)
		repo := fmt.Sprintf("test/pull%d", counter.Add(1))
		first := registry.Push(t, repo, "1")
		second := registry.Push(t, repo, "2") // the same content
		pull := func(ref string) string {
			resp, err := r.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
			if err != nil {
				t.Fatalf("pull %s: %v", ref, err)
			}
			return resp.ImageRef
		}
		id := pull(first)
		if other := pull(second); other != id {
			t.Errorf("the same image under two names is %s and %s", id, other)
		}
		t.Cleanup(func() {
			_, _ = r.RemoveImage(context.Background(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}})
		})
		st, err := r.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: first}})
		if err != nil || st.Image == nil {
			t.Fatalf("image status %v, %v", st, err)
		}
		if st.Image.Id != id || len(st.Image.RepoTags) != 2 || len(st.Image.RepoDigests) != 1 || st.Image.Size == 0 {
			t.Errorf("image %v", st.Image)
		}
		if byDigest := pull(st.Image.RepoDigests[0]); byDigest != id {
			t.Errorf("pulled by digest it is %s, by tag %s", byDigest, id)
		}
		list, err := r.ListImages(t.Context(), &cri.ListImagesRequest{Filter: &cri.ImageFilter{Image: &cri.ImageSpec{Image: second}}})
		if err != nil || r.isDockershim() && (len(list.Images) != 1 || list.Images[0].Id != id) { // containerd 1.6 filters nothing
			t.Errorf("list %v, %v", list, err)
		}
		p := r.pod("true", func(c *cri.ContainerConfig) { c.Image = &cri.ImageSpec{Image: id, UserSpecifiedImage: first} })
		ctr := r.exited(p.ctr)
		if r.isDockershim() && (ctr.ImageId != id || ctr.ImageRef != st.Image.RepoDigests[0] && ctr.ImageRef != id) {
			t.Errorf("container's image_id %s, image_ref %s", ctr.ImageId, ctr.ImageRef)
		}
		if r.isDockershim() {
			_, err = r.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: first}})
			wantCode(t, "removal of an image in use", err, codes.FailedPrecondition)
		}
		if _, err := r.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: p.ctr}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}}); err != nil {
				t.Fatal(err)
			}
		}
		st, err = r.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: first}})
		if err != nil || st.Image != nil {
			t.Errorf("removed, and %v, %v", st, err)
		}
	}},
	{name: "an image that is not there", run: func(t *testing.T, r *runtime) {
		st, err := r.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "test.local/none:1"}})
		if err != nil || st.Image != nil {
			t.Errorf("%v, %v", st, err)
		}
		registry := harness.StartRegistry(t)
		_, err = r.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: registry.Host + "/none:1"}})
		wantCode(t, "pull", err, codes.NotFound)
	}},
	{name: "the sandbox image is pinned", only: "dockershim", why: "pinning is newer than containerd 1.6", run: func(t *testing.T, r *runtime) {
		r.sandbox(r.sandboxConfig())
		list, err := r.ListImages(t.Context(), &cri.ListImagesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		pinned := 0
		for _, i := range list.Images {
			if i.Pinned {
				pinned++
			}
		}
		if pinned != 1 {
			t.Errorf("%d images are pinned", pinned)
		}
	}},
	{name: "the image file system", run: func(t *testing.T, r *runtime) {
		if !r.isDockershim() {
			t.Skip("containerd reports it after a while")
		}
		fs, err := r.ImageFsInfo(t.Context(), &cri.ImageFsInfoRequest{})
		if err != nil || len(fs.ImageFilesystems) != 1 || fs.ImageFilesystems[0].FsId.GetMountpoint() == "" || fs.ImageFilesystems[0].UsedBytes.GetValue() == 0 {
			t.Errorf("%v, %v", fs, err)
		}
	}},
}

var badInputCases = []testCase{
	{name: "bad input is refused by its field, and makes nothing", run: func(t *testing.T, r *runtime) {
		config := r.sandboxConfig()
		id := r.sandbox(config)
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"sandbox without metadata": func() error {
				_, err := r.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{}})
				return err
			},
			"sandbox without config": func() error { _, err := r.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{}); return err },
			"handler that nobody knows": func() error {
				_, err := r.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: r.sandboxConfig(), RuntimeHandler: "none"})
				return err
			},
			"container without config": func() error {
				_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config})
				return err
			},
			"log path that climbs": func() error {
				_, err := r.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: id, SandboxConfig: config, Config: containerConfig("x", "", func(c *cri.ContainerConfig) { c.LogPath = "../../../x" })})
				return err
			},
			"image that cannot be a reference": func() error {
				_, err := r.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "UPPER case"}})
				return err
			},
			"no id": func() error { _, err := r.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{}); return err },
		} {
			err := call()
			if r.isDockershim() {
				wantCode(t, name, err, codes.InvalidArgument)
			} else if err == nil && name != "log path that climbs" {
				t.Errorf("%s: no error", name)
			}
		}
		if r.isDockershim() {
			list, err := r.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: id}})
			if err != nil || len(list.Containers) != 0 {
				t.Errorf("left: %v, %v", list, err)
			}
		}
	}},
}

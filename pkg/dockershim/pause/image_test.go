package pause

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imagetar"
	"github.com/mini-kubelet/mini-kubelet/test/testimage"
)

func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

// loadOwn puts the pause image under a name of the test's own, because others
// use and test the real one at the same time.
func loadOwn(t *testing.T, docker *client.Client) string {
	t.Helper()
	img, err := Image(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	img.Refs = []string{"mini-kubelet.test/pause:" + strings.ToLower(t.Name())}
	img.Config.Labels = map[string]string{"test": t.Name()}
	testimage.Load(t, docker, img)
	return img.Refs[0]
}

func TestSandboxStopsAtOnce(t *testing.T) {
	docker := testimage.Docker(t)
	ref := loadOwn(t, docker)
	id := testimage.Start(t, docker, container.Config{Image: ref}, container.HostConfig{NetworkMode: "none"})
	c, err := docker.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	waitReady(t, c.State.Pid)
	fields := procStatus(t, c.State.Pid)
	rss, err := strconv.Atoi(strings.TrimSuffix(fields["VmRSS"], " kB"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident %d kB, page tables %s", rss, fields["VmPTE"])
	if rss > 64 {
		t.Errorf("resident memory %d kB", rss)
	}
	if fields["Uid"] != "65535\t65535\t65535\t65535" {
		t.Errorf("user %s", fields["Uid"])
	}

	exited, failed := docker.ContainerWait(t.Context(), id, container.WaitConditionNotRunning)
	began := time.Now()
	grace := 120
	if err := docker.ContainerStop(t.Context(), id, container.StopOptions{Timeout: &grace}); err != nil {
		t.Fatal(err)
	}
	select {
	case end := <-exited:
		if end.StatusCode != 0 {
			t.Errorf("status %d", end.StatusCode)
		}
	case err := <-failed:
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("docker stop took %v", took)
	// Docker kills after the grace period only; its own share varies with load.
	if took > time.Duration(grace)*time.Second/2 {
		t.Errorf("docker stop took %v", took)
	}
}

// orphans makes two kinds of orphans in a shared PID namespace: one that lives on
// after its parent and then dies, one that was dead before its parent. It says
// who adopted them and whether they vanish.
const orphans = `
gone() {
	i=0
	while [ -e /proc/$1 ]; do
		i=$((i+1))
		if [ $i -gt 500 ]; then echo "$2 stays: $(grep State /proc/$1/status)"; exit 1; fi
		sleep 0.1
	done
	echo "$2 reaped"
}
sh -c 'sleep 100 & echo $! > /tmp/living'
living=$(cat /tmp/living)
echo "living has $(grep PPid /proc/$living/status)"
kill $living
gone $living living

mkfifo /tmp/end
# It ends under cat, which waits for no child. The shell, which it was, does.
sh -c '{ until grep -q ^cat /proc/$$/cmdline; do sleep 0.1; done; } & echo $! > /tmp/dead; exec cat /tmp/end' &
i=0
until dead=$(cat /tmp/dead 2>/dev/null) && [ -n "$dead" ] && grep -q 'State:.Z' /proc/$dead/status; do
	i=$((i+1))
	if [ $i -gt 500 ]; then echo "no zombie"; exit 1; fi
	sleep 0.1
done
echo "dead is a zombie"
: > /tmp/end # its parent ends
wait $!
gone $dead dead
`

func TestSandboxReapsOrphansOfSharedPIDNamespace(t *testing.T) {
	docker := testimage.Docker(t)
	sandbox := testimage.Start(t, docker, container.Config{Image: loadOwn(t, docker)}, container.HostConfig{NetworkMode: "none"})
	busybox := testimage.LoadBusybox(t, docker)
	id := testimage.Start(t, docker, container.Config{Image: busybox, Cmd: []string{"sh", "-c", orphans}},
		container.HostConfig{NetworkMode: "none", PidMode: container.PidMode("container:" + sandbox)})
	exited, failed := docker.ContainerWait(t.Context(), id, container.WaitConditionNotRunning)
	select {
	case <-exited:
	case err := <-failed:
		t.Fatal(err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the container does not end")
	}
	logs, err := docker.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var said bytes.Buffer
	if _, err := stdcopy.StdCopy(&said, &said, logs); err != nil {
		t.Fatal(err)
	}
	if want := "living has PPid:\t1\nliving reaped\ndead is a zombie\ndead reaped\n"; said.String() != want {
		t.Errorf("it said %q, want %q", said.String(), want)
	}
}

func TestEnsureLoadsOnlyWhatIsMissingOrForeign(t *testing.T) {
	own, err := Image(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*imagetar.Image)) *imagetar.Image {
		img := own
		change(&img)
		return &img
	}
	tests := []struct {
		name         string
		present      *imagetar.Image
		loads, calls int
	}{
		{"missing", nil, 1, 2},
		{"present", &own, 0, 1},
		{"with the label by which an earlier release knew it", changed(func(i *imagetar.Image) {
			i.Config.Labels = map[string]string{"io.mini-kubelet.pause.sha256": "0"}
		}), 0, 1},
		{"another program", changed(func(i *imagetar.Image) { i.Files = []imagetar.File{imagetar.Bytes("pause", 0o555, []byte("other"))} }), 1, 2},
		{"another entry point", changed(func(i *imagetar.Image) { i.Config.Entrypoint = []string{"/bin/sh"} }), 1, 2},
		{"arguments", changed(func(i *imagetar.Image) { i.Config.Cmd = []string{"x"} }), 1, 2},
		{"root", changed(func(i *imagetar.Image) { i.Config.User = "" }), 1, 2},
		{"an environment", changed(func(i *imagetar.Image) { i.Config.Env = []string{"LD_PRELOAD=/x"} }), 1, 2},
		{"a volume", changed(func(i *imagetar.Image) { i.Config.Volumes = map[string]struct{}{"/v": {}} }), 1, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &memoryDocker{loadable: true}
			if tt.present != nil {
				if d.present, err = inspected(*tt.present); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Ensure(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if d.loads != tt.loads || d.inspects != tt.calls {
				t.Errorf("%d loads, %d look-ups; want %d and %d", d.loads, d.inspects, tt.loads, tt.calls)
			}
		})
	}
	d := &memoryDocker{}
	if _, err := Ensure(t.Context(), d); err == nil || d.loads != 1 {
		t.Errorf("an image that vanishes again: error %v after %d loads", err, d.loads)
	}
}

func TestAgentsLoadTheImageAtTheSameTime(t *testing.T) {
	docker := testimage.Docker(t)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = Ensure(t.Context(), docker); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids %v", ids)
		}
	}
}

package integration

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// withDriver starts an agent with a CSI driver that it reaches through a proxy.
func withDriver(t *testing.T) (*harness.Agent, *csidriver.Driver, *harness.Proxy) {
	t.Helper()
	a := start(t)
	d, proxy := harness.StartCSIProxy(t, a, csidriver.Config{Name: a.Node + ".csi.example", Data: filepath.Join(a.Dir, "csi")})
	harness.Eventually(t, "the driver is registered", harness.Patience, func() error {
		if s := d.Registered(); s == nil || !s.PluginRegistered {
			return fmt.Errorf("it was told %v", s)
		}
		return nil
	}, a.Explain)
	return a, d, proxy
}

// writeOnVolume writes a pod and a claim of its name for the driver's volume of that name.
func writeOnVolume(a *harness.Agent, name string) *v1.Pod {
	source := fmt.Sprintf("csi: {driver: %s.csi.example, volumeHandle: %s}\n  claimRef: {namespace: default, name: %[2]s}", a.Node, name)
	p := usesClaim(name, name)
	a.WriteText(name+".yaml", claimFor(name)+"---\n"+volumeOf(name, "1Gi", source)+"---\n"+harness.Manifest(p))
	return p
}

// waitMounted waits until these pods, and no others, have a volume of a CSI driver, each
// mounted once, and staged once.
func waitMounted(t *testing.T, a *harness.Agent, pods ...*v1.Pod) {
	t.Helper()
	harness.Eventually(t, "exactly the wanted volumes are mounted", harness.Patience, func() error {
		mounts, err := harness.MountsBelow(filepath.Join(a.Dir, "root"))
		if err != nil {
			return err
		}
		got := map[string]int{}
		for _, m := range mounts {
			if strings.HasSuffix(m, "/globalmount") {
				got["staged"]++
			} else if uid, rest, _ := strings.Cut(strings.TrimPrefix(m, filepath.Join(a.Dir, "root", "pods")+"/"), "/"); strings.HasPrefix(rest, "volumes/kubernetes.io~csi/") {
				got[uid]++
			}
		}
		if got["staged"] != len(pods) || len(got) > len(pods)+1 {
			return fmt.Errorf("mounts %v for %d pods", got, len(pods))
		}
		for _, p := range pods {
			if now := a.Pod(p.Name); now == nil || got[string(now.UID)] != 1 {
				return fmt.Errorf("mounts %v, none or too many for pod %s", got, p.Name)
			}
		}
		left, _ := filepath.Glob(filepath.Join(a.Dir, "root", "plugins", "kubernetes.io", "csi", "*", "*"))
		if len(left) != len(pods) {
			return fmt.Errorf("directories of staged volumes for %d pods: %v", len(pods), left)
		}
		return nil
	}, a.Explain)
}

func TestAgentKilledAfterEachCallOfACSIDriver(t *testing.T) {
	a, d, proxy := withDriver(t)
	write := func(n int64) *v1.Pod { return writeOnVolume(a, fmt.Sprintf("p%d", n)) }
	check := func(pods ...*v1.Pod) {
		waitMounted(t, a, pods...)
		for _, p := range pods { // it was started once
			waitContent(t, a, filepath.Join(d.Volume(p.Name), "starts"), p.Name+"\n")
		}
	}
	killAtEachCall(t, a, proxy, write, check, 2, 2) // stage, publish; unpublish, unstage
}

// TestCSIDriverThatLies has the driver fail a pod's calls in all ways: the pod says why it
// waits, and starts at the next try.
func TestCSIDriverThatLies(t *testing.T) {
	a, d, proxy := withDriver(t)
	nothing := func() {}
	const stage, publish = "/NodeStageVolume", "/NodePublishVolume"
	var pods []*v1.Pod
	type lie struct {
		call  string
		fault harness.Fault
		want  string // in the pod's event
	}
	// A cut breaks the connection with all that is under way on it, which is why these come apart.
	for _, cases := range []map[string]lie{{
		"stage-fails":      {stage, harness.Fail(13, "the disk is on fire"), "the disk is on fire"},
		"publish-fails":    {publish, harness.Fail(13, "no such thing"), "no such thing"},
		"publish-at-large": {publish, harness.Fail(13, strings.Repeat("x", 100<<10)), "xxxx"},
		"publish-garbage":  {publish, harness.Answer("\xff garbage"), "rpc error: code = Internal"},
		"publish-huge":     {publish, harness.Huge(16 << 20), "rpc error: code = ResourceExhausted"},
		"publish-nothing":  {publish, harness.Answer(""), "but there is nothing at"},
	}, {
		"stage-cut":    {stage, harness.CutAfter(nothing), "MountVolume.MountDevice failed: rpc error: code = Unavailable"},
		"publish-cut":  {publish, harness.CutAfter(nothing), "rpc error: code = Unavailable"},
		"publish-dies": {publish, harness.CutBefore(nothing), "rpc error: code = Unavailable"},
	}} {
		for name, tt := range cases {
			proxy.On(harness.First(harness.About(name, harness.Path("POST", tt.call))), tt.fault)
			pods = append(pods, writeOnVolume(a, name))
		}
		for name, tt := range cases {
			waitLog(t, a, "FailedMount", tt.want, name)
			a.WaitRunning(name)
			waitContent(t, a, filepath.Join(d.Volume(name), "starts"), name+"\n")
		}
	}
	proxy.Clear()
	a.WaitExactly(pods...)
	waitMounted(t, a, pods...)
	for line := range strings.Lines(a.Log()) {
		if len(line) > 64<<10 {
			t.Errorf("a line of the log has %d bytes: %.300s", len(line), line)
		}
	}
	// The calls of an end are repeated until they are done.
	ends := 0
	for _, call := range []string{"/NodeUnpublishVolume", "/NodeUnstageVolume"} {
		for _, fault := range []harness.Fault{harness.Fail(13, "not now"), harness.CutAfter(nothing)} {
			name := pods[ends].Name
			ends++
			once := harness.About(name, harness.Path("POST", call))
			proxy.On(harness.First(once), fault)
			a.Remove(name + ".yaml")
			defer func() {
				if !t.Failed() && proxy.Count(once) < 2 {
					t.Errorf("%s for %s was not repeated", call, name)
				}
			}()
		}
	}
	for _, p := range pods[:ends] {
		a.WaitGone(p.Name)
	}
	waitMounted(t, a, pods[ends:]...)
}

func TestCSIDriverThatHangsHoldsUpOnlyThePodsOfThatVolume(t *testing.T) {
	a, _, proxy := withDriver(t)
	fine := writeOnVolume(a, "fine")
	a.WaitRunning("fine")
	ofStuck := func(call string) func(harness.Call) bool { return harness.About("stuck", harness.Path("POST", call)) }
	await := func(call string) {
		t.Helper()
		harness.Eventually(t, call+" is called", harness.Patience, func() error {
			if proxy.Count(ofStuck(call)) == 0 {
				return errors.New("not yet")
			}
			return nil
		}, a.Explain)
	}
	release := make(chan struct{})
	proxy.On(harness.First(ofStuck("/NodePublishVolume")), harness.Hang(release))
	stuck := writeOnVolume(a, "stuck")
	await("/NodePublishVolume")
	other := writeOnVolume(a, "other")
	a.WaitRunning("other")
	kill(t, a, "fine")
	a.WaitPod("fine", "is repaired while the driver hangs", restarted)

	// The next agent asks again, whatever the driver makes of the first call.
	a.Kill()
	a.Start()
	a.WaitRunning("stuck")
	close(release)
	waitMounted(t, a, fine, stuck, other)

	again := make(chan struct{})
	proxy.Forget()
	proxy.On(harness.First(ofStuck("/NodeUnpublishVolume")), harness.Hang(again))
	a.Remove("stuck.yaml")
	await("/NodeUnpublishVolume")
	a.Remove("other.yaml")
	a.WaitGone("other")
	close(again)
	a.WaitGone("stuck")
	waitMounted(t, a, fine)
}

// Drivers whose registration fails are asked again, and the others do not wait for them.
func TestRegistrationOfACSIDriverIsRepeated(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{})
	const garbage = "\xff garbage"
	drivers := map[string]*csidriver.Driver{}
	cases := map[string]struct {
		call  string
		fault harness.Fault
		want  string // in the log
	}{
		"fails":    {"/GetInfo", harness.Fail(13, "who knows"), "ask plug-in for its name: rpc error: code = Internal desc = who knows"},
		"garbage":  {"/GetInfo", harness.Answer(garbage), "ask plug-in for its name: rpc error: code = Internal"},
		"huge":     {"/GetInfo", harness.Huge(16 << 20), "ask plug-in for its name: rpc error: code = ResourceExhausted"},
		"dies":     {"/GetInfo", harness.CutBefore(func() {}), "ask plug-in for its name: rpc error: code = Unavailable"},
		"hangs":    {"/GetInfo", harness.Hang(nil), "ask plug-in for its name: rpc error: code = DeadlineExceeded"},
		"lost":     {"/NodeGetInfo", harness.Fail(13, "where am I"), "where am I"},
		"not-told": {"/NotifyRegistrationStatus", harness.CutAfter(func() {}), "that it is registered: rpc error: code = Unavailable"},
		"liar":     {"/GetInfo", harness.Answer("\x0a\x09CSIPlugin\x12\x07../evil\x22\x051.0.0"), `"../evil\": that is no name`},
	}
	for name, tt := range cases {
		d, proxy := harness.StartCSIProxy(t, a, csidriver.Config{Name: name + ".csi.example", Data: filepath.Join(a.Dir, "csi")})
		proxy.On(harness.First(harness.Path("POST", tt.call)), tt.fault)
		drivers[name] = d
	}
	a.Start()
	for name, tt := range cases {
		waitLog(t, a, "Could not register a plug-in", tt.want, "/"+name+".csi.example-reg.sock")
		harness.Eventually(t, "driver "+name+" is registered", harness.Patience, func() error {
			if s := drivers[name].Registered(); s == nil || !s.PluginRegistered {
				return fmt.Errorf("it was told %v", s)
			}
			return nil
		}, a.Explain)
	}
}

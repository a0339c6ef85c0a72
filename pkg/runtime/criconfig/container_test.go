package criconfig

import (
	"errors"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestNonRoot(t *testing.T) {
	yes := true
	id := func(n int64) *int64 { return &n }
	image := func(uid int64) *cri.Image { return &cri.Image{Uid: &cri.Int64Value{Value: uid}} }
	for name, tt := range map[string]struct {
		image *cri.Image
		user  *int64
		err   string
	}{
		"image runs as a number":      {image: image(1000)},
		"container says a number":     {image: image(0), user: id(1000)},
		"container says root":         {image: image(1000), user: id(0), err: `container's runAsUser breaks non-root policy (pod: "p_ns(u)", container: c)`},
		"image runs as root":          {image: image(0), err: `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		"image says nothing":          {image: &cri.Image{}, err: "image will run as root"},
		"image runs as a name":        {image: &cri.Image{Username: "www"}, err: "image has non-numeric user (www), cannot verify user is non-root"},
		"image runs as 2 to the 31":   {image: image(1 << 31), err: "image's user 2147483648 is no user ID"},
		"image is not known":          {err: "cannot verify user is non-root"},
		"number beside unknown image": {user: id(7)},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{RunAsNonRoot: &yes}}}
			pod.Name, pod.Namespace, pod.UID = "p", "ns", "u"
			c := &v1.Container{Name: "c", SecurityContext: &v1.SecurityContext{RunAsUser: tt.user}}
			_, err := Container(t.Context(), pod, c, ContainerInput{Image: tt.image})
			if tt.err != "" {
				checkError(t, err, ReasonContainerConfig, tt.err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestImageUserIsHandedOn(t *testing.T) {
	for name, tt := range map[string]struct {
		image *cri.Image
		uid   *cri.Int64Value
		user  string
	}{
		"number":     {&cri.Image{Uid: &cri.Int64Value{Value: 5}}, &cri.Int64Value{Value: 5}, ""},
		"name":       {&cri.Image{Username: "www"}, nil, "www"},
		"nothing":    {&cri.Image{}, &cri.Int64Value{}, ""},
		"not known":  {nil, nil, ""},
		"both given": {&cri.Image{Uid: &cri.Int64Value{Value: 5}, Username: "www"}, &cri.Int64Value{Value: 5}, ""},
	} {
		got, err := Container(t.Context(), &v1.Pod{}, &v1.Container{}, ContainerInput{Image: tt.image})
		if err != nil {
			t.Fatal(err)
		}
		s := got.Linux.SecurityContext
		if (s.RunAsUser == nil) != (tt.uid == nil) || s.RunAsUser.GetValue() != tt.uid.GetValue() || s.RunAsUsername != tt.user {
			t.Errorf("%s: user %v %q, want %v %q", name, s.RunAsUser, s.RunAsUsername, tt.uid, tt.user)
		}
	}
}

func TestWhatCannotBeTranslatedIsAConfigError(t *testing.T) {
	signal := v1.Signal("SIGNOPE")
	bidi, rro, both := v1.MountPropagationBidirectional, v1.RecursiveReadOnlyEnabled, v1.MountPropagationMode("Both")
	empty := ""
	up := "../x"
	mount := func(m v1.VolumeMount) *v1.Container {
		m.Name, m.MountPath = "v", "/m"
		return &v1.Container{Name: "c", VolumeMounts: []v1.VolumeMount{m}}
	}
	seccomp := func(p v1.SeccompProfile) *v1.Container {
		return &v1.Container{SecurityContext: &v1.SecurityContext{SeccompProfile: &p}}
	}
	for name, tt := range map[string]struct {
		c   *v1.Container
		err string
	}{
		"unknown stop signal":             {&v1.Container{Lifecycle: &v1.Lifecycle{StopSignal: &signal}}, `stop signal "SIGNOPE" is not known`},
		"unknown volume":                  {&v1.Container{Name: "c", VolumeMounts: []v1.VolumeMount{{Name: "no"}}}, `cannot find volume "no" to mount into container "c"`},
		"absolute subPath":                {mount(v1.VolumeMount{SubPath: "/etc"}), "error SubPath `/etc` must not be an absolute path"},
		"subPath that steps back":         {mount(v1.VolumeMount{SubPath: "a/../b"}), "unable to provision SubPath `a/../b`: must not contain '..'"},
		"subPathExpr that steps back":     {mount(v1.VolumeMount{SubPathExpr: "$$/../x"}), "must not contain '..'"},
		"subPathExpr of nothing known":    {mount(v1.VolumeMount{SubPathExpr: "$(NO)/x"}), `missing value for "NO"`},
		"subPath with a NUL":              {mount(v1.VolumeMount{SubPath: "a\x00b"}), "must not contain NUL"},
		"unknown propagation":             {mount(v1.VolumeMount{MountPropagation: &both}), `invalid MountPropagation mode: "Both"`},
		"recursive but not read-only":     {mount(v1.VolumeMount{RecursiveReadOnly: &rro}), "but it is not read-only"},
		"recursive and propagated":        {mount(v1.VolumeMount{ReadOnly: true, RecursiveReadOnly: &rro, MountPropagation: &bidi}), `but mount propagation "Bidirectional" was requested too`},
		"recursive without the runtime":   {mount(v1.VolumeMount{ReadOnly: true, RecursiveReadOnly: &rro}), "it is not supported by the runtime"},
		"seccomp without its profile":     {seccomp(v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: &empty}), "localhostProfile must be set"},
		"seccomp profile outside":         {seccomp(v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: &up}), "below the node's profile directory"},
		"unknown seccomp type":            {seccomp(v1.SeccompProfile{Type: "Own"}), `seccompProfile type "Own" is not known`},
		"unknown AppArmor type":           {&v1.Container{SecurityContext: &v1.SecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: "Own"}}}, `appArmorProfile type "Own" is not known`},
		"AppArmor without its profile":    {&v1.Container{SecurityContext: &v1.SecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost}}}, "localhostProfile must be set if appArmorProfile type is Localhost"},
		"AppArmor annotation of no known": {&v1.Container{Name: "annotated"}, `invalid AppArmor profile name: "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "v"}}}}
			pod.Annotations = map[string]string{appArmorAnnotation + "annotated": "nonsense"}
			_, err := Container(t.Context(), pod, tt.c, ContainerInput{Volumes: places{}})
			checkError(t, err, ReasonContainerConfig, tt.err)
		})
	}
}

// The API server does not check the length of paths.
func TestAPathThatLinuxDoesNotTakeIsAConfigError(t *testing.T) {
	longest := "/" + strings.Repeat("a/", bounds.MaxPath/2-1) + "aa"
	mount := func(m v1.VolumeMount) v1.Container {
		m.Name = "disk"
		return v1.Container{VolumeMounts: []v1.VolumeMount{m}}
	}
	file := func(p string) v1.Container {
		from := &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: "env", Path: p, Key: "K", Optional: new(true)}}
		return v1.Container{Env: []v1.EnvVar{{Name: "K", ValueFrom: from}}}
	}
	for name, made := range map[string]func(string) v1.Container{
		"mountPath":              func(p string) v1.Container { return mount(v1.VolumeMount{MountPath: p}) },
		"subPath":                func(p string) v1.Container { return mount(v1.VolumeMount{SubPath: p[1:]}) },
		"subPathExpr":            func(p string) v1.Container { return mount(v1.VolumeMount{SubPathExpr: p[1:]}) },
		"terminationMessagePath": func(p string) v1.Container { return v1.Container{TerminationMessagePath: p} },
		"workingDir":             func(p string) v1.Container { return v1.Container{WorkingDir: p} },
		"devicePath": func(p string) v1.Container {
			return v1.Container{VolumeDevices: []v1.VolumeDevice{{Name: "disk", DevicePath: p}}}
		},
		"an env file": file,
		"seccomp": func(p string) v1.Container {
			return v1.Container{SecurityContext: &v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: new(p[1:])}}}
		},
		"AppArmor": func(p string) v1.Container {
			return v1.Container{SecurityContext: &v1.SecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &p}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "env", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}}}
			in := ContainerInput{Volumes: disks{"disk": {Host: "/dev/a", Block: true}}}
			for path, ok := range map[string]bool{longest: true, longest + "aa": false, strings.Repeat("/a", 1<<20): false} {
				c := made(path)
				_, err := Container(t.Context(), pod, &c, in)
				if (err == nil) != ok || err != nil && len(err.Error()) > 200 {
					t.Errorf("%d bytes: error %.300v", len(path), err)
				}
				if e, isOne := errors.AsType[*Error](err); err != nil && (!isOne || e.Reason() != ReasonContainerConfig) {
					t.Errorf("%d bytes: reason of %.300v", len(path), err)
				}
			}
		})
	}
}

func TestRecursiveReadOnlyIfPossibleAsksForWhatTheRuntimeCan(t *testing.T) {
	mode := v1.RecursiveReadOnlyIfPossible
	for _, can := range []bool{true, false} {
		got, err := recursiveReadOnly(&v1.VolumeMount{ReadOnly: true, RecursiveReadOnly: &mode}, can)
		if err != nil || got != can {
			t.Errorf("runtime can %v: %v, %v", can, got, err)
		}
	}
}

func TestPortsThatRepeatAreDroppedWithinAContainer(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{
		{Ports: []v1.ContainerPort{
			{ContainerPort: 80, HostPort: 80}, {ContainerPort: 80, HostPort: 80},
			{ContainerPort: 80, HostPort: 80, Protocol: v1.ProtocolUDP},
			{ContainerPort: 80, HostPort: 80, HostIP: "127.0.0.1"},
			{ContainerPort: 80, HostPort: 81},
			{Name: "a", ContainerPort: 1}, {Name: "a", ContainerPort: 2},
			{ContainerPort: 9, Protocol: v1.ProtocolSCTP},
		}},
		{Ports: []v1.ContainerPort{{ContainerPort: 80, HostPort: 80}}},
	}}}
	var got []string
	for _, p := range portMappings(pod) {
		got = append(got, strings.TrimSpace(strings.Join(strings.Fields(p.String()), " ")))
	}
	if len(got) != 7 {
		t.Errorf("%d mappings, want 7:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestAnnotationsAreReadBack(t *testing.T) {
	grace, deletion := int64(45), int64(7)
	pod := &v1.Pod{Spec: v1.PodSpec{TerminationGracePeriodSeconds: &grace}}
	pod.Name, pod.Namespace, pod.UID, pod.DeletionGracePeriodSeconds = "p", "ns", "u", &deletion
	c := &v1.Container{Name: "c", Image: "i", TerminationMessagePath: "/dev/log", TerminationMessagePolicy: v1.TerminationMessageReadFile,
		Ports:     []v1.ContainerPort{{Name: "http", ContainerPort: 80}},
		Lifecycle: &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 3}}}}
	config, err := Container(t.Context(), pod, c, ContainerInput{RestartCount: 9})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pods.ReadAnnotations(config.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hash != HashContainer(c) || r.RestartCount != 9 || *r.TerminationGracePeriod != 45 || *r.DeletionGracePeriod != 7 ||
		r.TerminationMessagePath != "/dev/log" || r.TerminationMessagePolicy != v1.TerminationMessageReadFile ||
		len(r.Ports) != 1 || r.Ports[0].Name != "http" || r.PreStop.Sleep.Seconds != 3 {
		t.Errorf("read back: %+v", r)
	}
	id, ok := pods.ReadLabels(config.Labels)
	if want := (pods.Identity{PodName: "p", Namespace: "ns", UID: "u", Container: "c"}); !ok || id != want {
		t.Errorf("identity = %+v, %v; want %+v", id, ok, want)
	}
}

func TestForeignAnnotationsAndLabelsDoNoHarm(t *testing.T) {
	r, err := pods.ReadAnnotations(map[string]string{
		pods.AnnotationContainerHash: "xyz", pods.AnnotationRestartCount: "-1", pods.AnnotationPorts: "{", pods.AnnotationPreStopHandler: "[]",
		pods.AnnotationTerminationGracePeriod: "soon", pods.AnnotationTerminationMessagePath: "/kept",
	})
	if r.TerminationMessagePath != "/kept" || r.Hash != 0 || r.RestartCount != 0 || r.Ports != nil || r.PreStop != nil || r.TerminationGracePeriod != nil {
		t.Errorf("read: %+v", r)
	}
	for _, key := range []string{pods.AnnotationContainerHash, pods.AnnotationRestartCount, pods.AnnotationPorts, pods.AnnotationPreStopHandler, pods.AnnotationTerminationGracePeriod} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
	if r, err := pods.ReadAnnotations(nil); err != nil || r.Hash != 0 {
		t.Errorf("no annotations: %+v, %v", r, err)
	}
	for _, labels := range []map[string]string{nil, {"app": "x"}, {pods.LabelPodName: "p", pods.LabelPodNamespace: "ns"}} {
		if _, ok := pods.ReadLabels(labels); ok {
			t.Errorf("%v is taken for a pod's", labels)
		}
	}
}

func TestHostsFile(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Subdomain: "pool", HostAliases: []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}}}}
	pod.Name, pod.Namespace = "web", "ns"
	got, err := HostsFile(pod, []string{"10.0.0.5", "fd00::5"}, "cluster.local", []byte("not this"))
	if err != nil {
		t.Fatal(err)
	}
	want := `# Kubernetes-managed hosts file.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
10.0.0.5	web.pool.ns.svc.cluster.local	web
fd00::5	web.pool.ns.svc.cluster.local	web

# Entries added by HostAliases.
1.2.3.4	a	b
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	pod.Spec = v1.PodSpec{HostNetwork: true}
	got, err = HostsFile(pod, []string{"192.0.2.1"}, "cluster.local", []byte("192.0.2.1 node\n"))
	if want := "# Kubernetes-managed hosts file (host network).\n192.0.2.1 node\n"; err != nil || string(got) != want {
		t.Errorf("host network: %q, %v; want %q", got, err, want)
	}
	pod.Spec = v1.PodSpec{Hostname: "not a name"}
	if _, err := HostsFile(pod, nil, "", nil); err == nil {
		t.Error("a host name that is none was written")
	}
}

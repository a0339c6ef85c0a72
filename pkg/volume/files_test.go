package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// objectsFake is an API server's ConfigMaps, Secrets and tokens.
type objectsFake struct {
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
	err        error
	asked      []string // tokens
}

func (o *objectsFake) ConfigMap(_ context.Context, namespace, name string) (*v1.ConfigMap, error) {
	if m := o.configMaps[namespace+"/"+name]; m != nil || o.err != nil {
		return m, o.err
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (o *objectsFake) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	if s := o.secrets[namespace+"/"+name]; s != nil || o.err != nil {
		return s, o.err
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func (o *objectsFake) Token(_ context.Context, pod *v1.Pod, audience string, seconds int64) (string, error) {
	o.asked = append(o.asked, fmt.Sprintf("%s %q %d", pod.Name, audience, seconds))
	return "token", o.err
}

func (o *objectsFake) TrustAnchors(_ context.Context, p *v1.ClusterTrustBundleProjection) ([]byte, error) {
	if *p.Name != "ca" {
		return nil, fmt.Errorf("no bundle %q", *p.Name)
	}
	return []byte("anchors"), o.err
}

func theObjects() *objectsFake {
	return &objectsFake{
		configMaps: map[string]*v1.ConfigMap{"ns/map": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"bin": {0, 255}}}},
		secrets:    map[string]*v1.Secret{"ns/secret": {Data: map[string][]byte{"key": []byte("hidden")}}},
	}
}

func mapVolume(name string, items []v1.KeyToPath, optional bool) v1.VolumeSource {
	return v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: name}, Items: items, Optional: &optional}}
}

func secretVolume(name string, items []v1.KeyToPath, optional bool) v1.VolumeSource {
	return v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: name, Items: items, Optional: &optional}}
}

func projectedVolume(sources ...v1.VolumeProjection) v1.VolumeSource {
	return v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: sources}}
}

func projectedMap(name string, items ...v1.KeyToPath) v1.VolumeProjection {
	return v1.VolumeProjection{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: name}, Items: items}}
}

func projectedSecret(name string, items ...v1.KeyToPath) v1.VolumeProjection {
	return v1.VolumeProjection{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: name}, Items: items}}
}

func projectedToken(audience string, seconds *int64) v1.VolumeProjection {
	return v1.VolumeProjection{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: seconds, Path: "tokens/token"}}
}

func projectedBundle(name string) v1.VolumeProjection {
	return v1.VolumeProjection{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Name: &name, Path: "ca/roots.pem"}}
}

func labels(p string) v1.DownwardAPIVolumeFile {
	return v1.DownwardAPIVolumeFile{Path: p, FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}}
}

func podWith(source v1.VolumeSource) *v1.Pod {
	p := testPod(v1.Volume{Name: "v", VolumeSource: source})
	p.Labels = map[string]string{"app": "x"}
	p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}}}}
	return p
}

func TestContentOfWrittenVolumes(t *testing.T) {
	needRoot(t)
	cpu := v1.DownwardAPIVolumeFile{Path: "cpu", ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"}}
	for name, tt := range map[string]struct {
		source v1.VolumeSource
		want   map[string]string
		err    string
		dir    string
		disk   bool
	}{
		"all keys of a ConfigMap": {source: mapVolume("map", nil, false), want: map[string]string{"a": "1", "b": "2", "bin": "\x00\xff"}, dir: "kubernetes.io~configmap/v", disk: true},
		"items of a ConfigMap":    {source: mapVolume("map", []v1.KeyToPath{{Key: "a", Path: "x/y"}, {Key: "bin", Path: "./z"}}, false), want: map[string]string{"x/y": "1", "z": "\x00\xff"}, dir: "kubernetes.io~configmap/v", disk: true},
		"a Secret":                {source: secretVolume("secret", nil, false), want: map[string]string{"key": "hidden"}, dir: "kubernetes.io~secret/v"},
		"items of a Secret":       {source: secretVolume("secret", []v1.KeyToPath{{Key: "key", Path: "k"}}, false), want: map[string]string{"k": "hidden"}, dir: "kubernetes.io~secret/v"},
		"optional and missing":    {source: mapVolume("no", []v1.KeyToPath{{Key: "a", Path: "a"}}, true), want: map[string]string{}, dir: "kubernetes.io~configmap/v", disk: true},
		"an optional key":         {source: secretVolume("secret", []v1.KeyToPath{{Key: "no", Path: "no"}}, true), want: map[string]string{}, dir: "kubernetes.io~secret/v"},
		"downward API": {source: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{labels("pod/labels"), cpu}}},
			want: map[string]string{"pod/labels": `app="x"`, "cpu": "2"}, dir: "kubernetes.io~downward-api/v"},
		"projected": {source: projectedVolume(projectedMap("map", v1.KeyToPath{Key: "a", Path: "m"}), projectedSecret("secret"), projectedToken("vault", nil), v1.VolumeProjection{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{labels("labels")}}}),
			want: map[string]string{"m": "1", "key": "hidden", "tokens/token": "token", "labels": `app="x"`}, dir: "kubernetes.io~projected/v"},
		"a trust bundle":   {source: projectedVolume(projectedBundle("ca")), want: map[string]string{"ca/roots.pem": "anchors"}, dir: "kubernetes.io~projected/v"},
		"the later of two": {source: projectedVolume(projectedMap("map", v1.KeyToPath{Key: "a", Path: "p"}), projectedSecret("secret", v1.KeyToPath{Key: "key", Path: "p"})), want: map[string]string{"p": "hidden"}, dir: "kubernetes.io~projected/v"},

		"a missing ConfigMap":        {source: mapVolume("no", nil, false), err: `MountVolume.SetUp failed for volume "v" : configmap "no" not found`},
		"a missing Secret":           {source: secretVolume("no", nil, false), err: `MountVolume.SetUp failed for volume "v" : secret "no" not found`},
		"a missing key":              {source: mapVolume("map", []v1.KeyToPath{{Key: "no", Path: "no"}}, false), err: "configmap references non-existent config key: no"},
		"a missing key of a Secret":  {source: secretVolume("secret", []v1.KeyToPath{{Key: "no", Path: "no"}}, false), err: "references non-existent secret key: no"},
		"two that are missing":       {source: projectedVolume(projectedMap("no"), projectedSecret("no")), err: `[configmap "no" not found, secret "no" not found]`},
		"an unknown field":           {source: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{{Path: "p", FieldRef: &v1.ObjectFieldSelector{FieldPath: "spec.no"}}}}}, err: "unsupported fieldPath: spec.no"},
		"a path that leaves":         {source: mapVolume("map", []v1.KeyToPath{{Key: "a", Path: "x/../../y"}}, false), err: "must not contain '..'"},
		"a path of the node's":       {source: mapVolume("map", []v1.KeyToPath{{Key: "a", Path: "..data"}}, false), err: "must not start with '..'"},
		"a missing trust bundle":     {source: projectedVolume(projectedBundle("no")), err: `MountVolume.SetUp failed for volume "v" : no bundle "no"`},
		"a pod certificate":          {source: projectedVolume(v1.VolumeProjection{PodCertificate: &v1.PodCertificateProjection{}}), err: "projections of type podCertificate are not supported by this node"},
		"a file that is a directory": {source: mapVolume("map", []v1.KeyToPath{{Key: "a", Path: "x"}, {Key: "b", Path: "x/y"}}, false), err: "x is a file and the directory of x/y"},
	} {
		t.Run(name, func(t *testing.T) {
			o := theObjects()
			m := newManager(t, Config{Objects: o})
			pod := podWith(tt.source)
			err := m.SetUp(t.Context(), pod)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p, err := m.Path(pod, "v")
			if err != nil || !p.ReadOnly || !p.Relabel || p.Host != filepath.Join(m.layout.pods(), "uid-1/volumes", tt.dir) {
				t.Errorf("path %+v, %v", p, err)
			}
			if got := shown(t, p.Host); !maps.Equal(got, tt.want) {
				t.Errorf("shows %q, want %q", got, tt.want)
			}
			var fs unix.Statfs_t
			if err := unix.Statfs(p.Host, &fs); err != nil || (fs.Type == unix.TMPFS_MAGIC) == tt.disk {
				t.Errorf("filesystem %#x, %v; on disk: %v", fs.Type, err, tt.disk)
			}
			if name == "projected" && !slices.Equal(o.asked, []string{`p "vault" 0`}) {
				t.Errorf("tokens asked for: %q", o.asked)
			}
			if err := m.TearDown(t.Context(), pod.UID); err != nil {
				t.Error(err)
			}
			if len(m.stamps) > 0 {
				t.Error("a pod that is gone is remembered")
			}
		})
	}
}

func TestAStandaloneNodeSaysWhatItLacks(t *testing.T) {
	m := newManager(t, Config{})
	for _, tt := range []struct {
		source v1.VolumeSource
		err    string
	}{
		{mapVolume("map", nil, true), "this node has no source of ConfigMaps"},
		{secretVolume("secret", nil, true), "this node has no source of Secrets"},
		{projectedVolume(projectedToken("", nil)), "this node has nobody who issues service-account tokens"},
	} {
		if err := m.SetUp(t.Context(), podWith(tt.source)); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("error = %v, want %q", err, tt.err)
		}
	}
}

func TestModesAndOwnersOfFiles(t *testing.T) {
	needRoot(t)
	number := func(n int64) *int64 { return &n }
	mode := func(n int32) *int32 { return &n }
	user := func(n int64) *v1.SecurityContext { return &v1.SecurityContext{RunAsUser: &n} }
	source := func(defaultMode *int32) *v1.ProjectedVolumeSource {
		return &v1.ProjectedVolumeSource{DefaultMode: defaultMode, Sources: []v1.VolumeProjection{
			projectedMap("map", v1.KeyToPath{Key: "a", Path: "a"}, v1.KeyToPath{Key: "b", Path: "b", Mode: mode(0o400)}), projectedToken("", nil),
		}}
	}
	type owner struct{ uid, gid, mode uint32 }
	for name, tt := range map[string]struct {
		spec        v1.PodSpec
		defaultMode *int32
		a, b, token owner
	}{
		"nothing said":        {v1.PodSpec{}, nil, owner{0, 0, 0o644}, owner{0, 0, 0o400}, owner{0, 0, 0o644}},
		"a default mode":      {v1.PodSpec{}, mode(0o600), owner{0, 0, 0o600}, owner{0, 0, 0o400}, owner{0, 0, 0o600}},
		"fsGroup":             {v1.PodSpec{SecurityContext: &v1.PodSecurityContext{FSGroup: number(7)}}, mode(0o600), owner{0, 7, 0o640}, owner{0, 7, 0o440}, owner{0, 7, 0o640}},
		"the user of the pod": {v1.PodSpec{SecurityContext: &v1.PodSecurityContext{RunAsUser: number(5)}}, nil, owner{0, 0, 0o644}, owner{0, 0, 0o400}, owner{5, 0, 0o600}},
		"one user of all":     {v1.PodSpec{InitContainers: []v1.Container{{SecurityContext: user(5)}}, Containers: []v1.Container{{SecurityContext: user(5)}}}, nil, owner{0, 0, 0o644}, owner{0, 0, 0o400}, owner{5, 0, 0o600}},
		"two users":           {v1.PodSpec{InitContainers: []v1.Container{{SecurityContext: user(5)}}, Containers: []v1.Container{{SecurityContext: user(6)}, {SecurityContext: user(6)}}}, nil, owner{0, 0, 0o644}, owner{0, 0, 0o400}, owner{0, 0, 0o644}},
		"a user and an image": {v1.PodSpec{Containers: []v1.Container{{SecurityContext: user(5)}, {}}}, nil, owner{0, 0, 0o644}, owner{0, 0, 0o400}, owner{0, 0, 0o644}},
		"user and fsGroup":    {v1.PodSpec{SecurityContext: &v1.PodSecurityContext{RunAsUser: number(5), FSGroup: number(7)}}, nil, owner{0, 7, 0o644}, owner{0, 7, 0o440}, owner{5, 7, 0o640}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, Config{Objects: theObjects()})
			pod := testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: source(tt.defaultMode)}})
			volumes := pod.Spec.Volumes
			pod.Spec = tt.spec
			pod.Spec.Volumes = volumes
			if len(pod.Spec.Containers) == 0 {
				pod.Spec.Containers = []v1.Container{{}}
			}
			setUp(t, m, pod)
			for p, want := range map[string]owner{"a": tt.a, "b": tt.b, "tokens/token": tt.token} {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(pathOf(t, m, pod, "v"), p), &st); err != nil {
					t.Fatal(err)
				}
				if got := (owner{st.Uid, st.Gid, st.Mode & 0o7777}); got != want {
					t.Errorf("%s: %+v, want %+v", p, got, want)
				}
			}
			again := newManager(t, Config{Root: m.layout.root, Objects: theObjects()})
			before := stamps(t, pathOf(t, m, pod, "v"))
			setUp(t, again, pod)
			if after := stamps(t, pathOf(t, m, pod, "v")); !slices.Equal(before, after) {
				t.Errorf("written again after a restart: %v, %v", before, after)
			}
		})
	}
}

func TestSetUpOfARunningPodFollowsItsObjects(t *testing.T) {
	o := theObjects()
	m := newManager(t, Config{Objects: o})
	pod := podWith(mapVolume("map", nil, false))
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "v")
	before := stamps(t, dir)
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		setUp(t, m, pod)
	}
	after, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := stamps(t, dir); !slices.Equal(got, before) || !after.ModTime().Equal(info.ModTime()) {
		t.Errorf("written though nothing changed: %v, %v", before, got)
	}
	o.configMaps["ns/map"] = &v1.ConfigMap{Data: map[string]string{"a": "new"}}
	setUp(t, m, pod)
	if got := shown(t, dir); !maps.Equal(got, map[string]string{"a": "new"}) {
		t.Errorf("shows %q after the change", got)
	}
}

func TestAVolumeThatCannotBeRefreshedKeepsItsContent(t *testing.T) {
	o := theObjects()
	var warned []string
	m := newManager(t, Config{Objects: o, Warn: func(_ *v1.Pod, reason, message string) { warned = append(warned, reason+" "+message) }})
	pod := podWith(mapVolume("map", nil, false))
	setUp(t, m, pod)
	delete(o.configMaps, "ns/map")
	setUp(t, m, pod)
	o.err = errors.New("the API server is away")
	again := newManager(t, Config{Root: m.layout.root, Objects: o})
	setUp(t, again, pod) // a new agent
	if got := shown(t, pathOf(t, m, pod, "v")); got["a"] != "1" {
		t.Errorf("shows %q", got)
	}
	want := []string{`FailedMount MountVolume.SetUp failed for volume "v" : configmap "map" not found; it keeps the content it has`}
	if !slices.Equal(warned, want) {
		t.Errorf("warned %q, want %q", warned, want)
	}
	o.err = nil
	if err := m.TearDown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUp(t.Context(), pod); err == nil {
		t.Error("a volume that was never written was set up without its ConfigMap")
	}
}

func TestVolumesMountedBelowHaveTheirMountPoints(t *testing.T) {
	pod := podWith(mapVolume("map", nil, false))
	mounts := func(paths ...string) (all []v1.VolumeMount) {
		for _, p := range paths {
			name, path, _ := strings.Cut(p, ":")
			all = append(all, v1.VolumeMount{Name: name, MountPath: path})
		}
		return all
	}
	pod.Spec.Containers = []v1.Container{
		{VolumeMounts: mounts("v:/etc/conf/", "o:/etc/conf/one/deep", "o:/etc/conf/one/deep/er", "o:/etc/conf-not", "o:/elsewhere", "o:/etc/conf/a.b")},
		{VolumeMounts: mounts("v:rel", "o:/rel/two", "o:/rel/../up")},
		{VolumeMounts: mounts("o:/etc/conf/three")},
	}
	pod.Spec.InitContainers = []v1.Container{{VolumeMounts: mounts("v:/", "o:/root")}}
	got := mountPointsBelow(pod, "v")
	slices.Sort(got)
	if want := []string{"a.b", "one/deep", "root", "two"}; !slices.Equal(got, want) {
		t.Fatalf("mount points %v, want %v", got, want)
	}
	m := newManager(t, Config{Objects: theObjects()})
	setUp(t, m, pod)
	for _, p := range got {
		if fi, err := os.Stat(filepath.Join(pathOf(t, m, pod, "v"), p)); err != nil || !fi.IsDir() {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestMountPointsThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ at, want string }{
		{"/v/..2026_01_02_03_04_05.1" + strings.Repeat("/a", 40_000), "name too long"},
		{"/v/..2026_01_02_03_04_05.1/a", "the volume's own"},
		{"/v/x/../..data", "the volume's own"},
		{"/v" + strings.Repeat("/a", 2050), "name too long"},
		{"/v/a/" + strings.Repeat("n", 256) + "/b", "name too long"},
	} {
		pod := podWith(mapVolume("map", nil, false))
		pod.Spec.Containers = []v1.Container{{VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/v"}, {Name: "o", MountPath: "/v/fine"}, {Name: "o", MountPath: tt.at}}}}
		m := newManager(t, Config{Objects: theObjects()})
		if err := m.SetUp(t.Context(), pod); err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 300 {
			t.Errorf("%.50s: error %v", tt.at, err)
		}
		if left, _ := os.ReadDir(pathOf(t, m, pod, "v")); len(left) > 0 {
			t.Errorf("%.50s: left %v behind", tt.at, left)
		}
	}
}

func TestASubPathShowsWhatWasThereAtItsStart(t *testing.T) {
	needRoot(t)
	o := theObjects()
	m := newManager(t, Config{Objects: o})
	pod := podWith(mapVolume("map", nil, false))
	setUp(t, m, pod)
	file, err := m.SubPath(t.Context(), pod, "c", 0, "v", "a")
	if err != nil {
		t.Fatal(err)
	}
	o.configMaps["ns/map"] = &v1.ConfigMap{Data: map[string]string{"a": "new"}}
	setUp(t, m, pod)
	if got := read(t, file); got != "1" {
		t.Errorf("the running container sees %q", got)
	}
	if file, err = m.SubPath(t.Context(), pod, "c", 0, "v", "a"); err != nil || read(t, file) != "new" {
		t.Errorf("the restarted container sees %q, %v", read(t, file), err)
	}
}

// BenchmarkSetUpOfUnchangedVolumes is what a sync of a running pod costs.
func BenchmarkSetUpOfUnchangedVolumes(b *testing.B) {
	m, err := New(Config{Root: b.TempDir(), Objects: theObjects()})
	if err != nil {
		b.Fatal(err)
	}
	pod := podWith(mapVolume("map", nil, false))
	for range b.N {
		if err := m.SetUp(b.Context(), pod); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMountPointsOfVeryManyMounts(t *testing.T) {
	mounts := []v1.VolumeMount{{Name: "v", MountPath: "/a"}}
	for i := range 30_000 {
		mounts = append(mounts, v1.VolumeMount{Name: "v", MountPath: fmt.Sprint("/a/", i)})
	}
	pod := testPod()
	pod.Spec.Containers = []v1.Container{{VolumeMounts: mounts}}
	begun := time.Now()
	if got := mountPointsBelow(pod, "v"); len(got) != 30_000 {
		t.Errorf("%d mount points", len(got))
	}
	if took := time.Since(begun); took > 30*time.Second { // comparing each with each takes minutes
		t.Errorf("took %v", took)
	}
}

// A key of a volume at which a container mounts something stays a file: one that the mount stays
// on if nobody sees the key, else the key itself.
func TestAMountOverAKey(t *testing.T) {
	over := []v1.VolumeMount{{Name: "v", MountPath: "/etc/net"}, {Name: "o", MountPath: "/etc/net/a", SubPath: "a"}}
	for name, tt := range map[string]struct {
		others []v1.VolumeMount
		want   string
	}{
		"seen by none":  {nil, ""},
		"seen by other": {[]v1.VolumeMount{{Name: "v", MountPath: "/x"}}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podWith(mapVolume("map", nil, false))
			pod.Spec.Containers[0].VolumeMounts = over
			if tt.others != nil {
				pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: "d", VolumeMounts: tt.others})
			}
			o := theObjects()
			m := newManager(t, Config{Objects: o})
			for range 2 {
				setUp(t, m, pod)
				dir := pathOf(t, m, pod, "v")
				if got := read(t, filepath.Join(dir, "a")); got != tt.want {
					t.Errorf("the key holds %q, want %q", got, tt.want)
				}
				if got := read(t, filepath.Join(dir, "b")); got != "2" {
					t.Errorf("another key holds %q", got)
				}
				o.configMaps["ns/map"] = &v1.ConfigMap{Data: map[string]string{"a": "1", "b": "2", "new": "3"}} // written anew
			}
		})
	}
}

// Below an emptyDir that a container has read-only, the runtime can make no mount points; they
// are made in it, and nowhere else.
func TestMountPointsInAReadOnlyEmptyDir(t *testing.T) {
	outside := t.TempDir()
	pod := testPod(emptyDirVolume("one", v1.EmptyDirVolumeSource{}), v1.Volume{Name: "two", VolumeSource: mapVolume("map", nil, false)},
		v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: outside}}})
	mounts := func(readOnly bool, volume, below string) []v1.VolumeMount {
		return []v1.VolumeMount{
			{Name: volume, MountPath: "/s", ReadOnly: readOnly}, {Name: "two", MountPath: "/s/" + below, ReadOnly: true},
			{Name: "two", MountPath: "/s/file-" + below, SubPath: "a"}, {Name: "host", MountPath: "/s/host-" + below},
		}
	}
	pod.Spec.Containers = []v1.Container{{Name: "c", VolumeMounts: mounts(true, "one", "conf.d")}, {Name: "d", VolumeMounts: mounts(false, "one", "writable")}, {Name: "e", VolumeMounts: mounts(true, "host", "never")}}
	pod.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "f", VolumeMounts: mounts(true, "one", "out/deep")}}}
	m := newManager(t, Config{Objects: theObjects()})
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(4321))}
	setUp(t, m, pod)
	create := func() {
		for _, c := range pods.AllContainers(pod) {
			if err := m.MountPoints(t.Context(), pod, c); err != nil {
				t.Error(err)
			}
		}
	}
	dir := pathOf(t, m, pod, "one")
	made := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if got := made(); len(got) > 0 {
		t.Errorf("made before there is a container: %q", got) // an init container may want it empty
	}
	create()
	if got := made(); !slices.Equal(got, []string{"conf.d", "out"}) {
		t.Errorf("made %q", got)
	}
	if os.Getuid() == 0 {
		for _, p := range []string{"conf.d", "out/deep"} {
			fi, err := os.Stat(filepath.Join(dir, p))
			if err != nil || !owned(fi, -1, 4321) || fi.Mode() != fs.ModeDir|fs.ModeSetgid|0o777 {
				t.Errorf("%s is %v, %v; want the volume's group and mode", p, fi, err)
			}
		}
	}
	// A container puts a link there.
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "out")), os.Symlink(outside, filepath.Join(dir, "out"))); err != nil {
		t.Fatal(err)
	}
	create()
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("made on the host: %v, %v", left, err)
	}
}

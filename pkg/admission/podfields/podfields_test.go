package podfields

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var update = flag.Bool("update", false, "write docs/pod-fields.md")

const document = "../../../docs/pod-fields.md"

// everything is a node that has everything that a field may need.
var everything = Features{Objects: true, Tokens: true, Claims: true, Control: true, Classes: true, Bundles: true}

// reachable returns the API types whose fields a node looks at: v1.PodSpec and
// what its honoured fields are made of.
func reachable() []reflect.Type {
	var all []reflect.Type
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if !described(t) || slices.Contains(all, t) {
			return
		}
		all = append(all, t)
		for _, f := range fieldsOf(t) {
			if everything.honours(sections[t.Name()][f.name].verdict) {
				visit(f.typ)
			}
		}
	}
	visit(reflect.TypeFor[v1.PodSpec]())
	return all
}

func TestEveryFieldOfAPodHasAVerdictAndEveryVerdictAField(t *testing.T) {
	types := map[string]reflect.Type{}
	for _, typ := range reachable() {
		types[typ.Name()] = typ
		for _, f := range fieldsOf(typ) {
			if sections[typ.Name()][f.name].verdict == "" {
				t.Errorf("%s.%s has no verdict: add a row to table.go", typ.Name(), f.name)
			}
		}
	}
	for _, s := range table {
		typ, ok := types[s.name]
		if !ok {
			t.Errorf("table.go has a section %s that no honoured field leads to", s.name)
			continue
		}
		var names []string
		for _, f := range fieldsOf(typ) {
			names = append(names, f.name)
		}
		var rows []string
		for _, r := range s.rows {
			rows = append(rows, r.field)
			if r.verdict != honoured && r.text == "" {
				t.Errorf("%s.%s: %s, but not why", s.name, r.field, r.verdict)
			}
		}
		if !slices.Equal(rows, names) {
			t.Errorf("%s: rows %v are not the type's fields in order: %v", s.name, rows, names)
		}
	}
}

func TestEveryFieldOfMetadataHasAVerdict(t *testing.T) {
	var names, rows []string
	for _, f := range fieldsOf(reflect.TypeFor[metav1.ObjectMeta]()) {
		names = append(names, f.name)
	}
	for _, r := range metadata.rows {
		rows = append(rows, r.field)
		if r.verdict != honoured && r.text == "" {
			t.Errorf("%s: %s, but not why", r.field, r.verdict)
		}
	}
	if !slices.Equal(rows, names) {
		t.Errorf("rows %v are not the type's fields in order: %v", rows, names)
	}
}

func TestIgnoredMetadataIsForgotten(t *testing.T) {
	var m metav1.ObjectMeta
	v := reflect.ValueOf(&m).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Type != reflect.TypeFor[metav1.Time]() {
			set(v.Field(i))
		}
	}
	m.CreationTimestamp = metav1.Now()
	ForgetIgnored(&m)
	for i, f := range fieldsOf(v.Type()) {
		if gone := v.FieldByIndex(f.index).IsZero(); gone != (metadata.rows[i].verdict == ignored) {
			t.Errorf("%s is %s, and cleared: %v", f.name, metadata.rows[i].verdict, gone)
		}
	}
}

func TestWhatIsSaidOfManifestsIsOfFieldsThatExist(t *testing.T) {
	for name := range inManifests {
		typ, field, _ := strings.Cut(name, ".")
		if _, ok := sections[typ][field]; !ok {
			t.Errorf("%s has no row", name)
		}
	}
}

func TestDocumentIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What becomes of each field of a pod\n\n")
	b.WriteString("Written by `go test ./pkg/admission/podfields -update` from `pkg/admission/podfields/table.go`; a test holds it to `v1.PodSpec` of the API release we build with.\n")
	b.WriteString("ConfigMaps, Secrets, PersistentVolumeClaims and PersistentVolumes come from the API server, and on a standalone node from the manifests; tokens, trust bundles and RuntimeClasses from the API server alone, and only a control plane describes CSI drivers for volumes of the pod's own and makes claims for ephemeral ones. A static pod of a node in a cluster gets none of them but the classes: what it refers to is refused for the reason beside it.\n")
	b.WriteString("A pod that sets a refused field is not started: the reason below is in its status and in the log. What is ignored is named below.\n")
	b.WriteString("\nA path has at most 4095 bytes and the files that the node writes names of at most 255, which is what Linux takes; a longer one fails the volume or the container that it belongs to, with `file name too long`. A path counts as it is written, but that of a file in a volume after it was cleaned. A quantity that 64 bits do not hold, in thousandths where it is of cpu, is refused.\n")
	counts := map[verdict]int{}
	for _, s := range table {
		manifests := ""
		for _, r := range s.rows {
			if inManifests[s.name+"."+r.field] != "" {
				manifests = " in a manifest |"
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n| field | verdict | |%s\n| --- | --- | --- |%s\n", s.name, manifests, strings.Repeat(" --- |", min(len(manifests), 1)))
		for _, r := range s.rows {
			counts[r.verdict]++
			fmt.Fprintf(&b, "| `%s` | %s | %s |", r.field, r.verdict, r.text)
			if manifests != "" {
				fmt.Fprintf(&b, " %s |", inManifests[s.name+"."+r.field])
			}
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(&b, "\n%d fields are honoured, %d more where the node has an API server, %d refused, %d are not a node's business.\n",
		counts[honoured], counts[withObjects]+counts[withTokens]+counts[withClaims]+counts[withControl]+counts[withCgroups]+counts[withClasses]+counts[withBundles], counts[refused], counts[notNode])
	b.WriteString("\n## Metadata of a manifest\n\nA field that `ObjectMeta` does not have is refused like one of the spec. The fields that are ignored do nothing, but editing one is an edit of the pod.\n\n| field | verdict | |\n| --- | --- | --- |\n")
	for _, r := range metadata.rows {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.field, r.verdict, r.text)
	}
	if *update {
		if err := os.WriteFile(document, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(document)
	if err != nil || string(have) != b.String() {
		t.Errorf("docs/pod-fields.md is out of date (%v): go test ./pkg/admission/podfields -update", err)
	}
}

func TestRefused(t *testing.T) {
	yes, no := true, false
	strict, merge := v1.SupplementalGroupsPolicyStrict, v1.SupplementalGroupsPolicyMerge
	limit := resource.MustParse("1Mi")
	one := resource.MustParse("1")
	container := func(c v1.Container) v1.PodSpec { return v1.PodSpec{Containers: []v1.Container{c}} }
	volume := func(s v1.VolumeSource) v1.PodSpec { return v1.PodSpec{Volumes: []v1.Volume{{VolumeSource: s}}} }
	amounts := func(name v1.ResourceName) v1.PodSpec {
		l := v1.ResourceList{name: one, v1.ResourceCPU: one, "zero.example/x": resource.Quantity{}}
		return container(v1.Container{Resources: v1.ResourceRequirements{Limits: l, Requests: l}})
	}
	for name, tt := range map[string]struct {
		spec v1.PodSpec
		want []string
	}{
		"nothing set": {v1.PodSpec{}, nil},
		"an ordinary pod": {v1.PodSpec{
			Containers: []v1.Container{{Name: "c", Image: "i", Ports: []v1.ContainerPort{{ContainerPort: 1}}, ResizePolicy: []v1.ContainerResizePolicy{{}}}},
			Volumes:    []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}},
			HostUsers:  &yes, EnableServiceLinks: &yes, SchedulerName: "default-scheduler",
			SecurityContext: &v1.PodSecurityContext{SupplementalGroupsPolicy: &merge},
		}, nil},
		"devices of any container": {v1.PodSpec{
			Containers:     []v1.Container{{}, {VolumeDevices: []v1.VolumeDevice{{}}}},
			InitContainers: []v1.Container{{VolumeDevices: []v1.VolumeDevice{{}}}},
		}, []string{
			"spec.initContainers[0].volumeDevices: " + noObjects,
			"spec.containers[1].volumeDevices: " + noObjects,
		}},
		"ephemeral containers":            {v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{{TargetContainerName: "c"}, {EphemeralContainerCommon: v1.EphemeralContainerCommon{Ports: make([]v1.ContainerPort, 1)}}}}, []string{"spec.ephemeralContainers[1].ports: not allowed in an ephemeral container"}},
		"an empty list is not set":        {v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{}, ImagePullSecrets: []v1.LocalObjectReference{}}, nil},
		"a user namespace":                {v1.PodSpec{HostUsers: &no}, []string{"spec.hostUsers: false: Docker has no user namespaces by container"}},
		"strict groups":                   {v1.PodSpec{SecurityContext: &v1.PodSecurityContext{SupplementalGroupsPolicy: &strict}}, []string{"spec.securityContext.supplementalGroupsPolicy: Strict: Docker always adds the groups that the image gives the user"}},
		"a claim":                         {volume(v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}), []string{"spec.volumes[0].persistentVolumeClaim: " + noObjects}},
		"a driver that moved":             {volume(v1.VolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{}}), []string{"spec.volumes[0].awsElasticBlockStore: moved to CSI in Kubernetes, which removed the in-tree driver (ebs.csi.aws.com)"}},
		"a token":                         {volume(v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{DownwardAPI: &v1.DownwardAPIProjection{}}, {ServiceAccountToken: &v1.ServiceAccountTokenProjection{}}}}}), []string{"spec.volumes[0].projected.sources[1].serviceAccountToken: " + noTokens}},
		"a limit of memory":               {volume(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory, SizeLimit: &limit}}), nil},
		"a limit of disk":                 {volume(v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &limit}}), nil},
		"cpu, and nothing of another":     {amounts(v1.ResourceMemory), nil},
		"storage":                         {amounts(v1.ResourceEphemeralStorage), nil},
		"huge pages":                      {amounts("hugepages-2Mi"), nil},
		"devices":                         {amounts("vendor.example/gpu"), nil},
		"an unknown resource":             {amounts("gpu"), []string{"spec.containers[0].resources.limits: gpu: no such resource is known", "spec.containers[0].resources.requests: gpu: no such resource is known"}},
		"an environment from a ConfigMap": {container(v1.Container{Env: []v1.EnvVar{{ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{}}}}}), []string{"spec.containers[0].env[0].valueFrom.configMapKeyRef: " + noObjects}},
		"a trust bundle":                  {volume(v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Name: new("ca")}}}}}), []string{"spec.volumes[0].projected.sources[0].clusterTrustBundle: " + noBundles}},
		"a class":                         {v1.PodSpec{RuntimeClassName: new("kata")}, []string{"spec.runtimeClassName: " + noClasses}},
		"a restart rule of later releases": {container(v1.Container{RestartPolicyRules: []v1.ContainerRestartRule{{Action: "Restart"}, {Action: "RestartAllContainers"}, {Action: "RestartPod"}}}),
			[]string{"spec.containers[0].restartPolicyRules[2].action: RestartPod: not implemented yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range Refused(&v1.Pod{Spec: tt.spec}, Features{}) {
				got = append(got, r.String())
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWhatNeedsAnAPIServerIsRefusedWithoutOne(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{
		Containers: []v1.Container{{EnvFrom: []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{}}}}},
		Volumes: []v1.Volume{
			{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{Items: []v1.KeyToPath{{Key: "k", Path: "p"}}}}},
			{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "p"}}}}}},
		},
	}}
	const env, volume, token = "spec.containers[0].envFrom[0].secretRef", "spec.volumes[0].configMap", "spec.volumes[1].projected.sources[0].serviceAccountToken"
	for _, tt := range []struct {
		node Features
		want []Refusal
	}{
		{Features{}, []Refusal{{volume, noObjects}, {token, noTokens}, {env, noObjects}}},
		{Features{Objects: true}, []Refusal{{token, noTokens}}},
		{Features{Tokens: true}, []Refusal{{volume, noObjects}, {env, noObjects}}},
		{everything, nil},
	} {
		if got := Refused(pod, tt.node); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.node, got, tt.want)
		}
	}
}

// Every refused field is found when it is set, whatever leads to it.
func TestEachRefusedFieldIsRefusedWhenSet(t *testing.T) {
	found := 0
	for _, typ := range reachable() {
		for _, f := range fieldsOf(typ) {
			r := sections[typ.Name()][f.name]
			if r.verdict == notNode || (Features{}).honours(r.verdict) {
				continue
			}
			v := reflect.New(typ).Elem()
			set(v.FieldByIndex(f.index))
			var all []Refusal
			inspect(Features{}, v, "x", &all)
			if !slices.Contains(all, Refusal{"x." + f.name, r.text}) {
				t.Errorf("%s.%s is set and not refused: %v", typ.Name(), f.name, all)
			}
			found++
		}
	}
	if found < 20 {
		t.Errorf("only %d refused fields were tried", found)
	}
}

// set gives a field the smallest value that a manifest can give it.
func set(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1)
	case reflect.Struct:
		set(v.Field(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	default:
		panic(fmt.Sprintf("teach set about %v", v.Kind()))
	}
}

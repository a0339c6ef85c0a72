package manifest

import (
	"slices"
	"testing"

	"k8s.io/utils/ptr"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// validPod is a pod that the API server accepts, with a bit of everything.
func validPod() *v1.Pod {
	always := v1.ContainerRestartPolicyAlways
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: v1.PodSpec{
			InitContainers: []v1.Container{
				{Name: "first", Image: "i"},
				{Name: "sidecar", Image: "i", RestartPolicy: &always, StartupProbe: &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"true"}}}}},
			},
			Containers: []v1.Container{{
				Name: "c", Image: "i",
				Ports: []v1.ContainerPort{{Name: "http", ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}},
				Env: []v1.EnvVar{{Name: "A", Value: "b"}, {Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
					{Name: "L", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}}},
				Resources: v1.ResourceRequirements{
					Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m")},
					Limits:   v1.ResourceList{v1.ResourceCPU: resource.MustParse("200m"), v1.ResourceMemory: resource.MustParse("1Gi")},
				},
				VolumeMounts:  []v1.VolumeMount{{Name: "d", MountPath: "/d", SubPath: "a/b"}, {Name: "h", MountPath: "/h"}},
				LivenessProbe: &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}},
			}},
			Volumes: []v1.Volume{
				{Name: "d", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
				{Name: "h", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/srv"}}},
			},
			Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}},
		},
	}
	SetDefaults(p)
	return p
}

func TestValidPodsAreValid(t *testing.T) {
	if errs := Validate(validPod()); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
}

func TestStopSignals(t *testing.T) {
	for signal, valid := range map[v1.Signal]bool{v1.SIGUSR1: true, v1.SIGRTMINPLUS1: true, "SIGNONE": false, "RUNTIME_DEFAULT": false, "": false} {
		p := validPod()
		p.Spec.OS = &v1.PodOS{Name: v1.Linux}
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{StopSignal: &signal}
		if errs := Validate(p); (len(errs) == 0) != valid {
			t.Errorf("%q: %v", signal, errs)
		}
	}
}

func fileKey(volume, path, key string) *v1.EnvVarSource {
	return &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: volume, Path: path, Key: key}}
}

// Each case breaks one thing; the error is in the API server's words.
func TestValidate(t *testing.T) {
	c := func(p *v1.Pod) *v1.Container { return &p.Spec.Containers[0] }
	for name, tc := range map[string]struct {
		breaks func(p *v1.Pod)
		want   string
	}{
		"no name":           {func(p *v1.Pod) { p.Name = "" }, "metadata.name: Required value: name or generateName is required"},
		"path as name":      {func(p *v1.Pod) { p.Name = "../../etc" }, "metadata.name: Invalid value: \"../../etc\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
		"no containers":     {func(p *v1.Pod) { p.Spec.Containers = nil }, "spec.containers: Required value"},
		"no container name": {func(p *v1.Pod) { c(p).Name = "" }, "spec.containers[0].name: Required value"},
		"same name twice":   {func(p *v1.Pod) { p.Spec.InitContainers[0].Name = "c" }, "spec.initContainers[0].name: Duplicate value: \"c\""},
		"no image":          {func(p *v1.Pod) { c(p).Image = "" }, "spec.containers[0].image: Required value"},
		"padded image":      {func(p *v1.Pod) { c(p).Image = " i" }, "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"},
		"pull policy":       {func(p *v1.Pod) { c(p).ImagePullPolicy = "Sometimes" }, "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\""},
		"restart policy":    {func(p *v1.Pod) { p.Spec.RestartPolicy = "No" }, "spec.restartPolicy: Unsupported value: \"No\": supported values: \"Always\", \"OnFailure\", \"Never\""},
		"port 0":            {func(p *v1.Pod) { c(p).Ports[0].ContainerPort = 0 }, "spec.containers[0].ports[0].containerPort: Required value"},
		"port too big":      {func(p *v1.Pod) { c(p).Ports[1].ContainerPort = 70000 }, "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"},
		"host port":         {func(p *v1.Pod) { p.Spec.HostNetwork = true }, "spec.containers[0].ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true"},
		"env name":          {func(p *v1.Pod) { c(p).Env[0].Name = "a=b" }, "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='"},
		"env twice":         {func(p *v1.Pod) { c(p).Env[1].Value = "x" }, "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"},
		"unknown field": {func(p *v1.Pod) { c(p).Env[1].ValueFrom.FieldRef.FieldPath = "spec.containers" },
			"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.containers\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\""},
		"a key of no file":    {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("e", "", "K") }, "spec.containers[0].env[1].valueFrom.fileKeyRef.path: Required value"},
		"a file outside":      {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("e", "a/../../b", "K") }, "spec.containers[0].env[1].valueFrom.fileKeyRef.path: Invalid value: \"a/../../b\": must not contain '..'"},
		"no key of a file":    {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("e", "f", "") }, "spec.containers[0].env[1].valueFrom.fileKeyRef.key: Required value"},
		"a key of no name":    {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("e", "f", "a=b") }, "spec.containers[0].env[1].valueFrom.fileKeyRef.key: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='"},
		"a file of no volume": {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("", "f", "K") }, "spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Required value"},
		"an odd volume of a file": {func(p *v1.Pod) { c(p).Env[1].ValueFrom = fileKey("../e", "f", "K") },
			"spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Invalid value: \"../e\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"},
		"an unknown volume of a file": {func(p *v1.Pod) {
			p.Spec.InitContainers[0].Env = []v1.EnvVar{{Name: "A", ValueFrom: fileKey("x", "f", "K")}}
		},
			"spec.initContainers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"x\""},
		"a file of the host": {func(p *v1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/etc"}}})
			c(p).Env[1].ValueFrom = fileKey("host", "f", "K")
		}, "spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Invalid value: \"host\": referenced volume must be of type emptyDir"},
		"request over limit": {func(p *v1.Pod) { c(p).Resources.Requests[v1.ResourceCPU] = resource.MustParse("1") },
			"spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 200m"},
		"negative limit": {func(p *v1.Pod) { c(p).Resources.Limits[v1.ResourceMemory] = resource.MustParse("-1") }, "spec.containers[0].resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0"},
		"resource name":  {func(p *v1.Pod) { c(p).Resources.Limits["gpu"] = resource.MustParse("1") }, "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers"},
		"no such volume": {func(p *v1.Pod) { c(p).VolumeMounts[0].Name = "x" }, "spec.containers[0].volumeMounts[0].name: Not found: \"x\""},
		"mounted twice":  {func(p *v1.Pod) { c(p).VolumeMounts[1].MountPath = "/d" }, "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/d\": must be unique"},
		"climbing path":  {func(p *v1.Pod) { c(p).VolumeMounts[0].SubPath = "a/../../b" }, "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"a/../../b\": must not contain '..'"},
		"propagation":    {func(p *v1.Pod) { c(p).VolumeMounts[0].MountPropagation = ptr.To(v1.MountPropagationBidirectional) }, "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"},
		"two handlers":   {func(p *v1.Pod) { c(p).LivenessProbe.TCPSocket = &v1.TCPSocketAction{Port: intstr.FromInt32(1)} }, "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"},
		"no handler":     {func(p *v1.Pod) { c(p).LivenessProbe.HTTPGet = nil }, "spec.containers[0].livenessProbe: Required value: must specify a handler type"},
		"liveness twice": {func(p *v1.Pod) { c(p).LivenessProbe.SuccessThreshold = 2 }, "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"},
		"readiness grace": {func(p *v1.Pod) {
			c(p).ReadinessProbe = &v1.Probe{ProbeHandler: c(p).LivenessProbe.ProbeHandler, TerminationGracePeriodSeconds: new(int64(5))}
		}, "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"},
		"probed init": {func(p *v1.Pod) { p.Spec.InitContainers[0].LivenessProbe = c(p).LivenessProbe }, "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"},
		"hook without handler": {func(p *v1.Pod) { c(p).Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{}} },
			"spec.containers[0].lifecycle.preStop: Required value: must specify a handler type"},
		"hook with two handlers": {func(p *v1.Pod) {
			c(p).Lifecycle = &v1.Lifecycle{PostStart: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"x"}}, Sleep: &v1.SleepAction{}}}
		}, "spec.containers[0].lifecycle.postStart.sleep: Forbidden: may not specify more than 1 handler type"},
		"hook longer than the grace period": {func(p *v1.Pod) {
			c(p).Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 31}}}
		}, "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"},
		"signal without system": {func(p *v1.Pod) { c(p).Lifecycle = &v1.Lifecycle{StopSignal: ptr.To(v1.SIGUSR1)} },
			"spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"},
		"own policy": {func(p *v1.Pod) { c(p).RestartPolicy = ptr.To(v1.ContainerRestartPolicy("Maybe")) },
			"spec.containers[0].restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\""},
		"rules without policy": {func(p *v1.Pod) { c(p).RestartPolicyRules = []v1.ContainerRestartRule{{Action: "Restart"}} },
			"spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"},
		"rule without codes": {func(p *v1.Pod) { c(p).RestartPolicyRules = []v1.ContainerRestartRule{{Action: "Restart"}} },
			"spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified"},
		"rule's action": {func(p *v1.Pod) { c(p).RestartPolicyRules = []v1.ContainerRestartRule{{Action: "Stop"}} },
			"spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\""},
		"rule's operator": {func(p *v1.Pod) {
			c(p).RestartPolicyRules = []v1.ContainerRestartRule{{Action: "Restart", ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: "Equals"}}}
		}, "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Equals\": supported values: \"In\", \"NotIn\""},
		"too many rules": {func(p *v1.Pod) { c(p).RestartPolicyRules = make([]v1.ContainerRestartRule, 21) },
			"spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items"},
		"too many codes": {func(p *v1.Pod) {
			c(p).RestartPolicyRules = []v1.ContainerRestartRule{{Action: "Restart", ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: make([]int32, 256)}}}
		}, "spec.containers[0].restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items"},
		"ephemeral container": {func(p *v1.Pod) { p.Spec.EphemeralContainers = make([]v1.EphemeralContainer, 1) }, "spec.ephemeralContainers: Forbidden: cannot be set on create"},
		"hooked init": {func(p *v1.Pod) { p.Spec.InitContainers[0].Lifecycle = &v1.Lifecycle{} },
			"spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"},
		"same volume":    {func(p *v1.Pod) { p.Spec.Volumes[1].Name = "d" }, "spec.volumes[1].name: Duplicate value: \"d\""},
		"two sources":    {func(p *v1.Pod) { p.Spec.Volumes[0].HostPath = &v1.HostPathVolumeSource{Path: "/x"} }, "spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type"},
		"no source":      {func(p *v1.Pod) { p.Spec.Volumes[0].EmptyDir = nil }, "spec.volumes[0]: Required value: must specify a volume type"},
		"host path type": {func(p *v1.Pod) { p.Spec.Volumes[1].HostPath.Type = ptr.To(v1.HostPathType("Dir")) }, "spec.volumes[1].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\""},
		"token of a minute": {func(p *v1.Pod) {
			p.Spec.Volumes[1].VolumeSource = v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "t", ExpirationSeconds: new(int64(60))}}}}}
		}, "spec.volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"},
		"negative grace": {func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1) }, "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"},
		"deadline 0":     {func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](0) }, "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"},
		"no nameserver":  {func(p *v1.Pod) { p.Spec.DNSPolicy, p.Spec.DNSConfig = v1.DNSNone, &v1.PodDNSConfig{} }, "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"},
		"host alias":     {func(p *v1.Pod) { p.Spec.HostAliases = []v1.HostAlias{{IP: "x"}} }, "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"},
		"negative user":  {func(p *v1.Pod) { p.Spec.SecurityContext.RunAsUser = ptr.To[int64](-1) }, "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"},
		"sysctl name":    {func(p *v1.Pod) { p.Spec.SecurityContext.Sysctls = []v1.Sysctl{{Name: "Net"}} }, "spec.securityContext.sysctls[0].name: Invalid value: \"Net\": must have at most 253 characters and match regex ^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$"},
		"host net sysctl": {func(p *v1.Pod) {
			c(p).Ports, p.Spec.HostNetwork, p.Spec.SecurityContext.Sysctls = nil, true, []v1.Sysctl{{Name: "net.core.somaxconn"}}
		}, "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true"},
		"seccomp without profile": {func(p *v1.Pod) {
			p.Spec.SecurityContext.SeccompProfile = &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost}
		}, "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"},
		"toleration":      {func(p *v1.Pod) { p.Spec.Tolerations[0].Operator = "Likes" }, "spec.tolerations[0].operator: Unsupported value: \"Likes\": supported values: \"Equal\", \"Exists\""},
		"service account": {func(p *v1.Pod) { p.Spec.ServiceAccountName = "sa" }, "spec.serviceAccountName: Forbidden: a static pod cannot refer to a service account"},
		"two claims of host processes": {func(p *v1.Pod) { p.Spec.HostPID, p.Spec.ShareProcessNamespace = true, ptr.To(true) },
			"spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			p := validPod()
			tc.breaks(p)
			var got []string
			for _, e := range Validate(p) {
				got = append(got, e.Error())
			}
			if !slices.Contains(got, tc.want) {
				t.Errorf("errors are %q\nwant among them %q", got, tc.want)
			}
		})
	}
}

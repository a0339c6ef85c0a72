package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

const header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

// write puts text into a file in a new directory and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, args ...string) (*Config, []string) {
	t.Helper()
	c, warnings, err := Load(append([]string{"--hostname-override=n1"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func TestAFileThatCannotBeReadRight(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // each a whole line of the error, FILE standing for the file
	}{
		{"unknown field", header + "maxPods: 5\nbogus: 1\n", []string{"FILE:4: bogus: unknown field"}},
		{"case matters", header + "maxpods: 5\n", []string{`FILE:3: maxpods: unknown field, did you mean "maxPods"?`}},
		{"unknown nested field", header + "authentication:\n  anonymous:\n    on: true\n", []string{"FILE:5: authentication.anonymous.on: unknown field"}},
		{"unknown field of a list's item", header + "registerWithTaints:\n- key: a\n  effekt: b\n", []string{"FILE:5: registerWithTaints[0].effekt: unknown field"}},
		{"field twice", header + "maxPods: 5\nport: 1\nmaxPods: 6\n", []string{"FILE:5: maxPods: set twice, first on line 3"}},
		{"wrong type", header + "maxPods: many\n", []string{"FILE:3: maxPods: want a whole number, got string"}},
		{"wrong type of a pointer", header + "enableServer: 1\n", []string{"FILE:3: enableServer: want true or false, got number"}},
		{"wrong duration", header + "syncFrequency: 1 minute\n", []string{`FILE:3: syncFrequency: time: unknown unit " minute" in duration "1 minute"`}},
		{"number where a duration is wanted", header + "syncFrequency: 60\n", []string{"FILE:3: syncFrequency: want a duration such as 20s, got number"}},
		{"scalar where a list is wanted", header + "clusterDNS: 10.0.0.10\n", []string{"FILE:3: clusterDNS: want a list of strings, got string"}},
		{"scalar where fields are wanted", header + "logging: 2\n", []string{"FILE:3: logging: want a mapping of fields"}},
		{"number in a map of strings", header + "evictionHard:\n  nodefs.available: 10\n", []string{"FILE:4: evictionHard: want a mapping of strings, got number"}},
		{"several at once", header + "a: 1\nmaxPods: x\n", []string{"FILE:3: a: unknown field", "FILE:4: maxPods: want a whole number, got string"}},
		{"another kind", "apiVersion: v1\nkind: Pod\nspec: {}\n", []string{`FILE:1: apiVersion is "v1", want "kubelet.config.k8s.io/v1beta1"`}},
		{"no kind", "apiVersion: kubelet.config.k8s.io/v1beta1\nmaxPods: 5\n", []string{`FILE:1: kind is missing, want "KubeletConfiguration"`}},
		{"empty", "", []string{"FILE: the file is empty, want a KubeletConfiguration"}},
		{"two documents", header + "---\n" + header, []string{"FILE: more than one document, want a single KubeletConfiguration"}},
		{"not a mapping", "- a\n", []string{"FILE:1: want a KubeletConfiguration, a mapping of fields"}},
		{"broken YAML", header + "a: [\n", []string{"FILE: line 3: did not find expected node content"}},
		{"an alias within itself", header + "authentication: &a\n  <<: *a\n", []string{"FILE:3: anchors and aliases that contain themselves or grow without end"}},
		{"out of range", header + "maxPods: -1\nsyncFrequency: -1s\n", []string{"FILE:4: syncFrequency: must be longer than 0s, got -1s", "FILE:3: maxPods: must be at least 0, got -1"}},
		{"out of range within a list", header + "clusterDNS: [10.0.0.10, dns]\n", []string{`FILE:3: clusterDNS[1]: must be an IP address, got "dns"`}},
		{"pulls in parallel and one at a time", header + "serializeImagePulls: true\nmaxParallelImagePulls: 3\n", []string{"FILE:4: maxParallelImagePulls: cannot be 3 while serializeImagePulls is true"}},
		{"a feature that is none", header + "featureGates:\n  Nope: true\n  MemoryQoS: true\n", []string{"FILE:3: featureGates.Nope: unrecognized feature gate: Nope"}},
		{"a locked feature", header + "featureGates: {NodeLogQuery: false, KMSv1: true}\n", []string{"FILE:3: featureGates.NodeLogQuery: cannot set feature gate NodeLogQuery to false, feature is locked to true"}},
		{"hidden metrics of another release", header + "showHiddenMetricsForVersion: \"1.30\"\n", []string{`FILE:3: showHiddenMetricsForVersion: invalid showHiddenMetricsForVersion: showHiddenMetricsForVersion: Invalid value: "1.30": must be omitted or have the value '1.36'; only the previous minor version is allowed`}},
		{"sysctls without their gate", header + "defaultPodSysctls: {net.core.somaxconn: \"1024\"}\n", []string{"FILE:3: defaultPodSysctls: DefaultPodSysctls feature gate is required for Kubelet configuration option defaultPodSysctls"}},
		{"sysctls of the machine, and one twice", header + "featureGates: {DefaultPodSysctls: true}\ndefaultPodSysctls: {vm.swappiness: \"1\", net.core.somaxconn: \"1\", net/core/somaxconn: \"2\"}\n", []string{`FILE:4: defaultPodSysctls: has "net.core.somaxconn" twice`, `FILE:4: defaultPodSysctls: "vm.swappiness" is not known to be namespaced`}},
		{"split logs without their gate", header + "logging: {options: {text: {splitStream: true}}}\n", []string{"FILE:3: logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled"}},
		{"traces for nobody", header + "tracing: {endpoint: \"http://x\", samplingRatePerMillion: -1}\n", []string{"FILE:3: tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive", `FILE:3: tracing.endpoint: Invalid value: "http://x": unsupported scheme: http.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md`}},
		{"user IDs", header + "userNamespaces: {idsPerPod: 1000}\n", []string{"FILE:3: userNamespaces.idsPerPod: must be a multiple of 65536 and not more than 4294967295, got 1000"}},
		{"queries of logs that are not served", header + "enableSystemLogQuery: true\n", []string{"FILE:3: enableSystemLogQuery: enableSystemLogHandler is required for enableSystemLogQuery"}},
		{"a reservation of CPU", header + "qosReserved: {cpu: 50%, memory: half}\n", []string{`FILE:3: qosReserved: cannot reserve "cpu": only memory`, `FILE:3: qosReserved: memory: want a percentage from 0% to 100%, got "half"`}},
		{"system processes into nothing", header + "systemCgroups: /system\n", []string{"FILE:3: systemCgroups: needs cgroupRoot (--cgroup-root)"}},
		{"an unknown verification policy", header + "imagePullCredentialsVerificationPolicy: Maybe\n", []string{`FILE:3: imagePullCredentialsVerificationPolicy: must be one of NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify, got "Maybe"`}},
		{"an allowlist for nothing", header + "preloadedImagesVerificationAllowlist: [reg/app]\n", []string{"FILE:3: preloadedImagesVerificationAllowlist: is for imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages only"}},
		{"an allowlist with a tag", header + "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [reg/app, \"reg/app:1\"]\n", []string{`FILE:4: preloadedImagesVerificationAllowlist[1]: "reg/app:1": neither tag nor digest is allowed`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, "kubelet.yaml", tt.text)
			_, _, err := Load([]string{"--config", file, "--hostname-override=n1"})
			if err == nil {
				t.Fatal("no error")
			}
			want := strings.ReplaceAll(strings.Join(tt.want, "\n"), "FILE", file)
			if err.Error() != want {
				t.Errorf("got:\n%v\nwant:\n%s", err, want)
			}
		})
	}
}

func TestAFlagThatCannotBeRight(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--bogus"}, "unknown flag: --bogus"},
		{[]string{"--max-pods=x"}, `want a whole number, got "x"`},
		{[]string{"--image-gc-high-threshold=80", "--image-gc-low-threshold=80"}, "--image-gc-low-threshold: must be less than imageGCHighThresholdPercent (80), got 80"},
		{[]string{"--minimum-image-ttl-duration=-1s"}, "--minimum-image-ttl-duration: must not be negative, got -1s"},
		{[]string{"--config=" + write(t, "age.yaml", header+"imageMaximumGCAge: 2m\n")}, "imageMaximumGCAge: must be longer than imageMinimumGCAge (2m0s), got 2m0s"},
		{[]string{"--config=" + write(t, "negative.yaml", header+"imageMaximumGCAge: -1m\n")}, "imageMaximumGCAge: must not be negative, got -1m0s"},
		{[]string{"--max-pods=-3"}, "--max-pods: must be at least 0, got -3"},
		{[]string{"--enable-server=maybe"}, `want true or false, got "maybe"`},
		{[]string{"--sync-frequency=5"}, `want a duration such as 20s, got "5"`},
		{[]string{"--healthz-bind-address=here"}, `--healthz-bind-address: must be an IP address, got "here"`},
		{[]string{"--cgroup-driver=v2"}, `--cgroup-driver: must be one of cgroupfs, systemd, got "v2"`},
		{[]string{"--manifest-validation=ignore"}, `--manifest-validation: must be one of strict, warn, got "ignore"`},
		{[]string{"--network-plugin=calico"}, `--network-plugin: must be one of docker, cni, kubenet, got "calico"`},
		{[]string{"--network-plugin-mtu=9"}, "--network-plugin-mtu: must be between 68 and 65535, got 9"},
		{[]string{"--kubenet-bridge=a/b"}, `--kubenet-bridge: must be the name of a network device, got "a/b"`},
		{[]string{"--pod-cidr=10.1.2.0"}, `--pod-cidr: "10.1.2.0" is not a CIDR such as 10.1.2.0/24`},
		{[]string{"--network-plugin=kubenet"}, "podCIDR: must be set: --network-plugin=kubenet gives pods addresses of it"},
		{[]string{"--teach", "--kubeconfig=/k"}, "--teach: is for standalone nodes"},
		{[]string{"--manifest-url=/tmp/x"}, `--manifest-url: must be an http:// or https:// URL, got "/tmp/x"`},
		{[]string{"--manifest-url=ftp://me:secret@host/"}, `got "ftp://me:xxxxx@host/"`},
		{[]string{"--manifest-url-header=novalue"}, "want key:value"},
		{[]string{"--container-runtime-endpoint=/run/x.sock"}, `--container-runtime-endpoint: must be an endpoint such as unix:///run/example.sock, got "/run/x.sock"`},
		{[]string{"--read-only-port=10248"}, "--read-only-port: is the same as healthzPort (10248)"},
		{[]string{"--root-dir=/"}, "--root-dir: must not be /"},
		{[]string{"--hostname-override=a_b"}, `--hostname-override: the node's name must be a DNS name (letters, digits, '-' and '.'), got "a_b"`},
		{[]string{"--register-with-taints=a=b"}, `"a=b": want key=value:effect`},
		{[]string{"--feature-gates=A=perhaps"}, `A: want true or false, got "perhaps"`},
		{[]string{"--bootstrap-kubeconfig=/x"}, "--bootstrap-kubeconfig: needs --kubeconfig, the file to write"},
		{[]string{"--cpu-manager-policy=fast"}, `--cpu-manager-policy: must be one of none, static, got "fast"`},
		{[]string{"--cpu-manager-policy-options=full-pcpus-only=true"}, "--cpu-manager-policy-options: cannot be set with cpuManagerPolicy none, which has no options"},
		{[]string{"--cpu-manager-policy=static", "--cpu-manager-policy-options=prefer-align-cpus-by-uncorecache=true"},
			`--cpu-manager-policy-options: option "prefer-align-cpus-by-uncorecache" of the CPU manager is not implemented here`},
		{[]string{"--reserved-cpus=1-"}, `--reserved-cpus: must be a list of CPUs such as 0-1,4, got "1-"`},
		{[]string{"--reserved-cpus=0", "--kube-reserved-cgroup=/x"}, "--reserved-cpus: cannot be set with systemReservedCgroup or kubeReservedCgroup"},
		{[]string{"--enforce-node-allocatable=pods,kube-reserved"}, "--enforce-node-allocatable: kube-reserved needs kubeReservedCgroup, the cgroup to enforce it on"},
		{[]string{"--enforce-node-allocatable=system-reserved,system-reserved-compressible", "--system-reserved-cgroup=/s"}, "--enforce-node-allocatable: cannot have both system-reserved and system-reserved-compressible"},
		{[]string{"--enforce-node-allocatable=system-reserved", "--system-reserved-cgroup=/s", "--cgroups-per-qos=false"}, "--enforce-node-allocatable: system-reserved needs cgroupsPerQOS: true"},
		{[]string{"--enforce-node-allocatable=pods,none"}, "--enforce-node-allocatable: cannot have anything beside none"},
		{[]string{"--enforce-node-allocatable=pods,pods"}, `--enforce-node-allocatable: has "pods" twice`},
		{[]string{"--enforce-node-allocatable=user-reserved"}, `--enforce-node-allocatable: must be made of pods, system-reserved, system-reserved-compressible, kube-reserved, kube-reserved-compressible or be none, got "user-reserved"`},
		{[]string{"--config=" + write(t, "swap.yaml", header+"memorySwap: {swapBehavior: UnlimitedSwap}\n")}, `memorySwap.swapBehavior: must be one of NoSwap, LimitedSwap, got "UnlimitedSwap"`},
		{[]string{"--kernel-settings=all"}, `--kernel-settings: must be one of set, leave, got "all"`},
		{[]string{"--config=" + write(t, "qos.yaml", header+"featureGates: {MemoryQoS: false}\nmemoryReservationPolicy: TieredReservation\n")}, "memoryReservationPolicy: TieredReservation needs featureGates: {MemoryQoS: true}"},
		{[]string{"--container-log-max-size=10MB"}, `--container-log-max-size: must be a number of bytes such as 10Mi, got "10MB"`},
		{[]string{"--container-log-max-files=1"}, "--container-log-max-files: must be at least 2, got 1"},
		{[]string{"--config=" + write(t, "workers.yaml", header+"containerLogMaxWorkers: 0\n")}, "containerLogMaxWorkers: must be at least 1, got 0"},
		{[]string{"--config=" + write(t, "interval.yaml", header+"containerLogMonitorInterval: 2s\n")}, "containerLogMonitorInterval: must be at least 3s, got 2s"},
		{[]string{"--config=" + write(t, "factor.yaml", header+"memoryThrottlingFactor: 1.5\n")}, "memoryThrottlingFactor: must be greater than 0 and at most 1, got 1.5"},
		{[]string{"--config=" + write(t, "shutdown.yaml", header+"shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 20s\n")}, "shutdownGracePeriodCriticalPods: must not be more than shutdownGracePeriod (10s), got 20s"},
		{[]string{"--config=" + write(t, "both.yaml", header+"shutdownGracePeriod: 10s\nshutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 5}]\n")}, "shutdownGracePeriodByPodPriority: cannot be set together with shutdownGracePeriod"},
		{[]string{"--config=" + write(t, "short.yaml", header+"shutdownGracePeriod: 10ms\n")}, "shutdownGracePeriod: must be 0 or at least 1s, got 10ms"},
		{[]string{"--config=/nonexistent.yaml"}, "read configuration: open /nonexistent.yaml: no such file or directory"},
		{[]string{"manifests"}, `unknown argument "manifests"`},
	}
	for _, tt := range tests {
		_, _, err := Load(tt.args)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q:\n got %v\nwant %s", tt.args, err, tt.want)
		}
	}
}

func TestFlagsWinOverTheFileAndDropInsOverTheirElders(t *testing.T) {
	file := write(t, "kubelet.yaml", header+`maxPods: 10
syncFrequency: 30s
clusterDNS: [10.0.0.1, 10.0.0.2]
staticPodURLHeader: {A: [file]}
systemReserved: {cpu: 100m}
registryPullQPS: 1
`)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"20.conf": header + "maxPods: 30\nsystemReserved: {memory: 1Gi}\n",
		"10.conf": header + "maxPods: 20\nclusterDNS: [10.0.0.3]\n",
		"30.yaml": "not read: its name does not end in .conf",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := mustLoad(t, "--config", file, "--config-dir", dir)
	if c.MaxPods != 30 || c.SyncFrequency.Duration != 30*time.Second {
		t.Errorf("maxPods %d, syncFrequency %s, want 30 and 30s", c.MaxPods, c.SyncFrequency)
	}
	if !reflect.DeepEqual(c.ClusterDNS, []string{"10.0.0.3"}) {
		t.Errorf("clusterDNS is %v, want the drop-in's list in place of the file's", c.ClusterDNS)
	}
	if !reflect.DeepEqual(c.SystemReserved, map[string]string{"cpu": "100m", "memory": "1Gi"}) {
		t.Errorf("systemReserved is %v, want both files' keys", c.SystemReserved)
	}

	c, _ = mustLoad(t, "--config", file, "--max-pods=5", "--cluster-dns=10.0.0.8", "--cluster-dns=10.0.0.9",
		"--manifest-url-header=B:one", "--manifest-url-header=B:two,C:three", "--system-reserved=memory=2Gi", "--registry-qps=0", "--root_dir=/tmp/x")
	if c.MaxPods != 5 || *c.RegistryPullQPS != 0 || c.SyncFrequency.Duration != 30*time.Second {
		t.Errorf("maxPods %d, registryPullQPS %d, syncFrequency %s, want 5, 0, 30s", c.MaxPods, *c.RegistryPullQPS, c.SyncFrequency)
	}
	if !reflect.DeepEqual(c.ClusterDNS, []string{"10.0.0.8", "10.0.0.9"}) {
		t.Errorf("clusterDNS is %v, want those of both flags and none of the file", c.ClusterDNS)
	}
	if !reflect.DeepEqual(c.StaticPodURLHeader, map[string][]string{"B": {"one", "two"}, "C": {"three"}}) {
		t.Errorf("headers are %v", c.StaticPodURLHeader)
	}
	if !reflect.DeepEqual(c.SystemReserved, map[string]string{"memory": "2Gi"}) {
		t.Errorf("systemReserved is %v, want the flag's", c.SystemReserved)
	}
	if c.RootDir != "/tmp/x" {
		t.Errorf("--root_dir set %q", c.RootDir)
	}
}

func TestJSONIsReadAsYAMLIs(t *testing.T) {
	file := write(t, "kubelet.json", "{\n\t\"apiVersion\": \"kubelet.config.k8s.io/v1beta1\",\n\t\"kind\": \"KubeletConfiguration\",\n\t\"maxPods\": 7\n}\n")
	if c, _ := mustLoad(t, "--config", file); c.MaxPods != 7 {
		t.Errorf("maxPods = %d", c.MaxPods)
	}
}

func TestYAMLAnchorsMergesAndNulls(t *testing.T) {
	file := write(t, "kubelet.yaml", header+`
authentication:
  webhook: &on {enabled: true}
  anonymous:
    <<: *on
maxPods: null
enableServer: no
`)
	c, _ := mustLoad(t, "--config", file)
	if !*c.Authentication.Anonymous.Enabled || c.MaxPods != 110 || *c.EnableServer {
		t.Errorf("anonymous %v, maxPods %d, enableServer %v", *c.Authentication.Anonymous.Enabled, c.MaxPods, *c.EnableServer)
	}
}

func TestWarningsNameWhatIsSetAndNotHonoured(t *testing.T) {
	file := write(t, "kubelet.yaml", header+`volumePluginDir: /x
enableControllerAttachDetach: false
failSwapOn: false
maxPods: 20
memorySwap: {swapBehavior: NoSwap}
`)
	tests := []struct {
		name string
		args []string
		want []string // beginnings
	}{
		{"nothing set", nil, nil},
		{"fields", []string{"--config", file}, []string{file + ":4: enableControllerAttachDetach is known", file + ":3: volumePluginDir is known"}},
		{"flag of a field", []string{"--volume-plugin-dir=/y"}, []string{"--volume-plugin-dir is known"}},
		{"flag over a field is named once", []string{"--config", file, "--volume-plugin-dir=/y"}, []string{file + ":4: enableControllerAttachDetach", "--volume-plugin-dir is known"}},
		{"flag without a field", []string{"--cloud-provider=aws"}, []string{"--cloud-provider is known"}},
		{"flags of older kubelets", []string{"--api-servers=http://x", "--docker-disable-shared-pid=false", "--network-plugin-dir=/p", "--docker-only", "--one-output"},
			[]string{"--docker-disable-shared-pid is a flag of older kubelets and has no effect; in its place: a pod says so itself: shareProcessNamespace",
				"--network-plugin-dir is a flag of older kubelets and has no effect; in its place: use --cni-bin-dir", "--api-servers is a flag of older kubelets"}},
		{"what happens anyway", []string{"--fail-swap-on=false", "--cpu-manager-policy=none", "--container-runtime=remote", "--cloud-provider=",
			"--register-schedulable=true", "--allow-privileged", "--logtostderr", "--feature-gates="}, nil},
		{"features that can be switched", []string{"--feature-gates=MemoryQoS=false"}, nil},
		{"features that cannot, are the default, will be gone or are missing", []string{"--feature-gates=MemoryQoS=true,KubeletTracing=true,ContainerCheckpoint=true,SELinuxMount=false,EventedPLEG=true,UserNamespacesSupport=true,AllAlpha=true"},
			[]string{"--feature-gates: AllAlpha switches only", "--feature-gates: EventedPLEG cannot be switched here", "--feature-gates: KubeletTracing is a GA", "--feature-gates: SELinuxMount cannot", "--feature-gates: UserNamespacesSupport is not in"}},
		{"what lacks its feature gate", []string{"--qos-reserved=memory=50%"}, []string{"--qos-reserved has no effect"}},
		{"attaching", []string{"--enable-controller-attach-detach=false"}, []string{"--enable-controller-attach-detach is known"}},
		{"the opposite of it", []string{"--enable-controller-attach-detach=false", "--container-runtime=rkt"},
			[]string{"--enable-controller-attach-detach is", "--container-runtime is"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := mustLoad(t, tt.args...)
			if len(got) != len(tt.want) {
				t.Fatalf("warnings:\n%s\nwant %d", strings.Join(got, "\n"), len(tt.want))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("warning %q, want one that begins with %q", got[i], tt.want[i])
				}
			}
		})
	}
}

func TestWhatKubeadmWritesIsAccepted(t *testing.T) {
	c, warnings := mustLoad(t, "--config", "testdata/kubeadm.yaml")
	if c.ClusterDomain != "cluster.local" || c.SyncFrequency.Duration != time.Minute || c.HealthzListen() != "127.0.0.1:10248" {
		t.Errorf("clusterDomain %q, syncFrequency %s, healthz %q", c.ClusterDomain, c.SyncFrequency, c.HealthzListen())
	}
	for _, w := range warnings {
		if !strings.Contains(w, "rotateCertificates") && !strings.Contains(w, "clientCAFile") {
			t.Errorf("unexpected warning: %s", w)
		}
	}
}

func TestTheShippedFileIsTheDefaultWithoutWarnings(t *testing.T) {
	c, warnings := mustLoad(t, "--config", "../../config/kubelet.yaml")
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	if c.StaticPodPath != "/etc/kubernetes/manifests" || !c.Standalone() || c.ReadOnlyListen() != "127.0.0.1:10255" {
		t.Errorf("staticPodPath %q, standalone %v, read-only port on %q", c.StaticPodPath, c.Standalone(), c.ReadOnlyListen())
	}
}

func TestPortsAndEndpoints(t *testing.T) {
	join := []string{"--kubeconfig=/etc/kubernetes/kubelet.conf"}
	tests := []struct {
		name              string
		args              []string
		healthz, readOnly string
	}{
		{"standalone", nil, "127.0.0.1:10248", "127.0.0.1:10255"},
		{"in a cluster the read-only port is shut", join, "127.0.0.1:10248", ""},
		{"in a cluster it is where it was asked for", append(join, "--read-only-port=10255"), "127.0.0.1:10248", "0.0.0.0:10255"},
		{"0 switches off", []string{"--healthz-port=0", "--read-only-port=0"}, "", ""},
		{"an address alone does not open the port to the network", []string{"--address=0.0.0.0"}, "127.0.0.1:10248", "127.0.0.1:10255"},
		{"an address and a port do", []string{"--address=::", "--read-only-port=10255"}, "127.0.0.1:10248", "[::]:10255"},
		{"another port", []string{"--read-only-port=20255", "--healthz-port=20248"}, "127.0.0.1:20248", "127.0.0.1:20255"},
	}
	for _, tt := range tests {
		c, _ := mustLoad(t, tt.args...)
		if c.HealthzListen() != tt.healthz || c.ReadOnlyListen() != tt.readOnly {
			t.Errorf("%s: healthz %q, read-only %q, want %q, %q", tt.name, c.HealthzListen(), c.ReadOnlyListen(), tt.healthz, tt.readOnly)
		}
	}
	c, _ := mustLoad(t)
	if !c.InProcessDockershim() || c.RuntimeEndpoint() != DefaultDockershimSocket || c.ImageEndpoint() != DefaultDockershimSocket {
		t.Errorf("dockershim %v, runtime %s, images %s", c.InProcessDockershim(), c.RuntimeEndpoint(), c.ImageEndpoint())
	}
	c, _ = mustLoad(t, "--container-runtime-endpoint=unix:///run/containerd/containerd.sock")
	if c.InProcessDockershim() || c.ImageEndpoint() != "unix:///run/containerd/containerd.sock" {
		t.Errorf("dockershim %v, images %s", c.InProcessDockershim(), c.ImageEndpoint())
	}
}

func TestNamesAndPaths(t *testing.T) {
	c, _, err := Load([]string{"--hostname-override= Node-1 ", "--root-dir=state", "--pod-manifest-path=manifests"})
	if err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c.NodeName != "node-1" {
		t.Errorf("node name %q, want it trimmed and in lower case", c.NodeName)
	}
	if c.RootDir != filepath.Join(wd, "state") || c.CertDir != filepath.Join(wd, "state/pki") || c.StaticPodPath != filepath.Join(wd, "manifests") {
		t.Errorf("paths %q %q %q are not absolute", c.RootDir, c.CertDir, c.StaticPodPath)
	}
}

func TestDefaultsThatHangOnOtherFields(t *testing.T) {
	c, _ := mustLoad(t, "--config", write(t, "k.yaml", header+"maxParallelImagePulls: 4\nnodeStatusUpdateFrequency: 20s\npodPidsLimit: -5\nevictionHard: {memory.available: 1Gi}\n"))
	if *c.SerializeImagePulls {
		t.Error("serializeImagePulls is true beside maxParallelImagePulls: 4")
	}
	if c.NodeStatusReportFrequency.Duration != 20*time.Second {
		t.Errorf("nodeStatusReportFrequency = %s, want that of the update", c.NodeStatusReportFrequency)
	}
	if *c.PodPidsLimit != -1 || len(c.EvictionHard) != 1 {
		t.Errorf("podPidsLimit %d, evictionHard %v", *c.PodPidsLimit, c.EvictionHard)
	}
	c, _ = mustLoad(t, "--config", write(t, "k.yaml", header+"evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n"))
	if len(c.EvictionHard) != 5 || c.EvictionHard["memory.available"] != "1Gi" {
		t.Errorf("merged evictionHard = %v", c.EvictionHard)
	}
}

func TestKubernetesVersionIsThatOfTheLibraries(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s*k8s.io/kubelet v0\.(\S+)`).FindSubmatch(mod)
	if m == nil || KubernetesVersion != "v1."+string(m[1]) {
		t.Errorf("KubernetesVersion is %s, go.mod has k8s.io/kubelet v0.%s", KubernetesVersion, m[1])
	}
}

func TestAgentVersion(t *testing.T) {
	setting := func(k, v string) debug.BuildSetting { return debug.BuildSetting{Key: k, Value: v} }
	tests := []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel"},
		{debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "true")}}, "devel-0123456789ab+dirty"},
	}
	for _, tt := range tests {
		if got := agentVersion(&tt.info); got != tt.want {
			t.Errorf("agentVersion() = %q, want %q", got, tt.want)
		}
	}
}

func TestOnlyANodeOfAClusterChangesTheMachine(t *testing.T) {
	join := "--kubeconfig=/etc/kubernetes/kubelet.conf"
	for _, tt := range []struct {
		args           []string
		kernel, chains bool
	}{
		{nil, false, false},
		{[]string{"--kernel-settings=set", "--make-iptables-util-chains"}, true, true},
		{[]string{join}, true, true},
		{[]string{join, "--kernel-settings=leave", "--make-iptables-util-chains=false"}, false, false},
	} {
		c, _, err := Load(append(tt.args, "--hostname-override=n"))
		if err != nil {
			t.Fatal(err)
		}
		if c.SetsKernelParameters() != tt.kernel || *c.MakeIPTablesUtilChains != tt.chains {
			t.Errorf("%q: sets the kernel's parameters: %v, makes chains: %v", tt.args, c.SetsKernelParameters(), *c.MakeIPTablesUtilChains)
		}
	}
}

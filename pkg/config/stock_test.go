package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAFlagsZeroIsNoDefault(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"maxPods: 0\n")
	c, _ := mustLoad(t, "--config="+file)
	if c.MaxPods != 110 {
		t.Errorf("a file's zero: maxPods %d, want the default, as with the kubelet", c.MaxPods)
	}
	c, _ = mustLoad(t, "--config="+file, "--max-pods=0", "--enforce-node-allocatable=", "--eviction-pressure-transition-period=0", "--kube-api-burst=0", "--volume-stats-agg-period=0s", "--eviction-hard=")
	if c.MaxPods != 0 || len(c.EnforceNodeAllocatable) != 0 || c.EvictionPressureTransitionPeriod.Duration != 0 || c.KubeAPIBurst != 0 || c.VolumeStatsAggPeriod.Duration != 0 || len(c.EvictionHard) != 0 {
		t.Errorf("zeros of flags became %d, %v, %v, %d, %v, %v", c.MaxPods, c.EnforceNodeAllocatable, c.EvictionPressureTransitionPeriod, c.KubeAPIBurst, c.VolumeStatsAggPeriod, c.EvictionHard)
	}
}

func TestAnAddressOfAFlagThatIsEmptyIsThatOfTheFile(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"address: 192.0.2.1\n")
	c, _ := mustLoad(t, "--config="+file, "--address=", "--healthz-bind-address=")
	if c.Address != "192.0.2.1" || c.HealthzBindAddress != "127.0.0.1" {
		t.Errorf("addresses %q, %q", c.Address, c.HealthzBindAddress)
	}
}

func TestFeaturesOfAFlagAreAddedToThoseOfTheFile(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"featureGates: {MemoryQoS: false, DefaultPodSysctls: true}\n")
	c, _ := mustLoad(t, "--config="+file, "--feature-gates=MemoryQoS=true", "--feature-gates=LoggingBetaOptions=true")
	if want := map[string]bool{"MemoryQoS": true, "DefaultPodSysctls": true, "LoggingBetaOptions": true}; !reflect.DeepEqual(c.FeatureGates, want) {
		t.Errorf("%v, want %v", c.FeatureGates, want)
	}
}

func TestPathsOfAFileAreRelativeToIt(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"staticPodPath: manifests\nauthentication: {x509: {clientCAFile: pki/ca.crt}}\ntlsCertFile: /etc/tls.crt\ntlsPrivateKeyFile: tls.key\nresolvConf: \"\"\n")
	dropIns := filepath.Dir(write(t, "10.conf", header+"podLogsDir: logs\n"))
	c, _ := mustLoad(t, "--config="+file, "--config-dir="+dropIns)
	dir := filepath.Dir(file)
	for name, got := range map[string][2]string{
		"staticPodPath": {c.StaticPodPath, dir + "/manifests"}, "clientCAFile": {c.Authentication.X509.ClientCAFile, dir + "/pki/ca.crt"},
		"tlsCertFile": {c.TLSCertFile, "/etc/tls.crt"}, "tlsPrivateKeyFile": {c.TLSPrivateKeyFile, dir + "/tls.key"},
		"resolvConf": {*c.ResolverConfig, ""}, "podLogsDir": {c.PodLogsDir, dropIns + "/logs"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", name, got[0], got[1])
		}
	}
	work, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c, _ = mustLoad(t, "--config="+file, "--client-ca-file=ca.crt"); c.Authentication.X509.ClientCAFile != filepath.Join(work, "ca.crt") {
		t.Errorf("--client-ca-file=ca.crt is %q, want it in the directory where the agent was started", c.Authentication.X509.ClientCAFile)
	}
}

func TestNullInADropInTakesTheFieldBack(t *testing.T) {
	file := write(t, "kubelet.yaml", header+"maxPods: 5\nhealthzPort: 1\nclusterDNS: [10.0.0.10]\nevictionHard: {memory.available: 1Gi, nodefs.available: 1%}\nuserNamespaces: {idsPerPod: 131072}\nreadOnlyPort: null\n")
	dropIns := filepath.Dir(write(t, "10.conf", header+"maxPods: null\nhealthzPort: ~\nclusterDNS:\nevictionHard: {memory.available: null}\nuserNamespaces: null\n"))
	c, warnings := mustLoad(t, "--config="+file, "--config-dir="+dropIns)
	if c.MaxPods != 110 || *c.HealthzPort != 10248 || len(c.ClusterDNS) != 0 || c.UserNamespaces != nil || c.ReadOnlyPort != DefaultReadOnlyPort {
		t.Errorf("maxPods %d, healthzPort %d, clusterDNS %v, userNamespaces %v, readOnlyPort %d", c.MaxPods, *c.HealthzPort, c.ClusterDNS, c.UserNamespaces, c.ReadOnlyPort)
	}
	if want := map[string]string{"nodefs.available": "1%"}; !reflect.DeepEqual(c.EvictionHard, want) {
		t.Errorf("evictionHard %v, want %v", c.EvictionHard, want)
	}
	if len(warnings) > 0 {
		t.Errorf("what was taken back is warned about: %q", warnings)
	}
}

func TestAnchorsMeanWhatTheyMeanInYAML(t *testing.T) {
	file := write(t, "kubelet.yaml", header+`
authentication:
  webhook: &hook {cacheTTL: &ttl 3m, enabled: false}
authorization:
  webhook: {cacheAuthorizedTTL: *ttl}
memorySwap: {swapBehavior: &name NoSwap}
evictionHard: {&key memory.available: &much 200Mi, nodefs.available: 10%}
evictionSoft: {memory.available: *much}
evictionSoftGracePeriod: {*key : *ttl}
clusterDNS: [&dns 10.0.0.10]
allowedUnsafeSysctls: [*dns]
logging:
  verbosity: 5
  <<: [{verbosity: 2, flushFrequency: 7s, options: {json: {infoBufferSize: 1Mi}}}, {flushFrequency: 9s, format: text}]
  options: {json: {splitStream: false}}
`)
	c, _ := mustLoad(t, "--config="+file)
	if c.Authorization.Webhook.CacheAuthorizedTTL.Duration != 3*time.Minute || c.EvictionSoft["memory.available"] != "200Mi" || c.EvictionSoftGracePeriod["memory.available"] != "3m" || !slices.Equal(c.AllowedUnsafeSysctls, []string{"10.0.0.10"}) {
		t.Errorf("aliases became %v, %v, %v, %v", c.Authorization.Webhook, c.EvictionSoft, c.EvictionSoftGracePeriod, c.AllowedUnsafeSysctls)
	}
	if c.Logging.Verbosity != 5 || c.Logging.FlushFrequency.Duration.Duration != 7*time.Second {
		t.Errorf("merged: verbosity %d, flushed each %v; want what is there to win over what is merged", c.Logging.Verbosity, c.Logging.FlushFrequency.Duration)
	}
	if size := c.Logging.Options.JSON.InfoBufferSize; size.Value() != 0 {
		t.Errorf("the options have a buffer of %v; want those that are there, as a whole", size.Value())
	}
}

// What the kubelet's validation refuses (k8s.io/kubernetes/pkg/kubelet/apis/config/validation and
// cmd/kubelet/app/options), and what would be taken for something else.
func TestWhatTheKubeletRefusesIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		text, want string
		args       []string
	}{
		"taint without a key":         {text: "registerWithTaints: [{effect: NoSchedule}]", want: "registerWithTaints[0]: name part must be non-empty"},
		"taint of another effect":     {text: "registerWithTaints: [{key: a, effect: Never}]", want: `the effect "Never" is none of`},
		"taint with a time":           {text: "registerWithTaints: [{key: a, effect: NoExecute, timeAdded: \"2026-01-01T00:00:00Z\"}]", want: "timeAdded cannot be set"},
		"taint's value":               {args: []string{"--register-with-taints=a=b c:NoSchedule"}, want: "--register-with-taints: "},
		"bit of iptables":             {text: "iptablesDropBit: 32", want: "iptablesDropBit: must be between 0 and 31, got 32"},
		"other bit of iptables":       {text: "iptablesMasqueradeBit: -1", want: "iptablesMasqueradeBit: must be between 0 and 31, got -1"},
		"logs in a directory":         {text: "podLogsDir: /var/lög", want: "podLogsDir: must be in ASCII"},
		"cgroups that are not made":   {text: "cgroupsPerQOS: false\nenforceNodeAllocatable: [pods]", want: "enforceNodeAllocatable: pods needs cgroupsPerQOS: true"},
		"a feature that is a word":    {text: "featureGates: {MemoryQoS: \"yes\"}", want: "featureGates: want a mapping of names to true or false, got string"},
		"a curve by its name":         {text: "tlsCurvePreferences: [X25519]", want: "tlsCurvePreferences: want a list of whole numbers, got string"},
		"two mistakes of two kinds":   {text: "iptablesDropBit: 32", args: []string{"--max-pods=-1"}, want: "iptablesDropBit: must be between 0 and 31, got 32"},
		"much of little":              {text: "allowedUnsafeSysctls: [&a " + strings.Repeat("a", 100_000) + strings.Repeat(", *a", 200) + "]", want: "grow without end"},
		"label of Kubernetes":         {args: []string{"--node-labels=node-role.kubernetes.io/worker="}, want: "--node-labels: node-role.kubernetes.io/worker: a node may not give itself"},
		"label's value":               {args: []string{"--node-labels=a=b c"}, want: "--node-labels: a=b c: "},
		"label's name":                {args: []string{"--node-labels=a/b/c=d"}, want: "--node-labels: a/b/c=d: "},
		"status of the past":          {text: "nodeStatusUpdateFrequency: -1s", want: "nodeStatusUpdateFrequency: must be longer than 0s"},
		"report of the past":          {text: "nodeStatusReportFrequency: -1s", want: "nodeStatusReportFrequency: must be longer than 0s"},
		"pressure of the past":        {text: "evictionPressureTransitionPeriod: -1s", want: "evictionPressureTransitionPeriod: must not be negative"},
		"zero that is no default":     {args: []string{"--sync-frequency=0"}, want: "--sync-frequency: must be longer than 0s, got 0s"},
		"flush of the past":           {text: "logging: {flushFrequency: -1s}", want: "logging.flushFrequency"},
		"a map's key twice":           {text: "evictionHard: {memory.available: 1Gi, memory.available: 2Gi}", want: `key "memory.available" already set in map`},
		"a field twice, in JSON":      {text: "logging: {\"verbosity\": 1, \"verbosity\": 2}", want: "logging.verbosity: set twice"},
		"an alias of nothing":         {text: "clusterDNS: *nothing", want: "unknown anchor 'nothing' referenced"},
		"a merge of a list":           {text: "clusterDNS: &a [10.0.0.10]\nlogging: {<<: *a}", want: "a merge key wants a mapping"},
		"a number larger than memory": {text: "maxPods: 99999999999", want: "maxPods: want a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, "kubelet.yaml", header+tc.text+"\n")
			_, _, err := Load(append([]string{"--hostname-override=n1", "--config=" + file}, tc.args...))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	mustLoad(t, "--cgroups-per-qos=false")
	mustLoad(t, "--node-labels=node.kubernetes.io/a=b,x.kubelet.kubernetes.io/c=,topology.kubernetes.io/zone=z,example.com/d=e,f=g,cluster.k8s.io=h", "--register-with-taints=a:NoSchedule,b=c:NoExecute")
}

func TestAFileThatIsNoFileHoldsNobody(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "10.conf")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := write(t, "huge.yaml", header)
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{pipe: "the file is empty", huge: "has more than 1048576 bytes", "/dev/zero": "has more than 1048576 bytes", t.TempDir(): "is a directory"} {
		if _, _, err := Load([]string{"--config=" + name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, _, err := Load([]string{"--config-dir=" + filepath.Dir(pipe)}); err == nil {
		t.Error("a pipe among the drop-ins: no error")
	}
	// The shell's --config <(command) is a pipe that somebody writes into.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { _, _ = w.WriteString(header + "maxPods: 7\n"); w.Close() }()
	if c, _ := mustLoad(t, "--config=/proc/self/fd/"+strconv.Itoa(int(r.Fd()))); c.MaxPods != 7 {
		t.Errorf("of a command: maxPods %d", c.MaxPods)
	}
}

func TestAnAgentOutsideOfItsReservationIsToldSo(t *testing.T) {
	for group, want := range map[string]int{"/kube.slice/agent": 0, "/agent": 1} {
		if _, warnings := mustLoad(t, "--kube-reserved-cgroup=/kube.slice", "--kubelet-cgroups="+group); len(warnings) != want {
			t.Errorf("%s: warnings %q, want %d", group, warnings, want)
		}
	}
}

func TestDropInsAreLaidOverEachOtherInTheKubeletsOrder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "10"), 0o700); err != nil {
		t.Fatal(err)
	}
	// As a directory's entries, 10 is before 10.conf; as paths, 10.conf is before 10/x.conf.
	for name, text := range map[string]string{"10/x.conf": "maxPods: 1\n", "10.conf": "maxPods: 2\n", "9.yaml": "maxPods: 3\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(header+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, _ := mustLoad(t, "--config-dir="+dir); c.MaxPods != 2 {
		t.Errorf("maxPods is %d, want that of 10.conf, the last", c.MaxPods)
	}
}

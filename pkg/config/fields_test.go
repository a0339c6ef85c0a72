package config

import (
	goflag "flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

var update = goflag.Bool("update", false, "rewrite docs/configuration.md and golden files")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is out of date; run: go test ./pkg/config -update\n%s", name, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("first difference on line %d:\n got %q\nwant %q", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	return "the file has more lines"
}

// leaves lists the paths of all settings in a configuration type, in its order.
func leaves(t reflect.Type, prefix string) []string {
	var list []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			if f.Name != "TypeMeta" {
				list = append(list, leaves(f.Type, prefix)...)
			}
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if isObject(ft) {
			list = append(list, leaves(ft, join(prefix, tag))...)
		} else {
			list = append(list, join(prefix, tag))
		}
	}
	return list
}

func TestEveryKubeletConfigurationFieldHasAVerdict(t *testing.T) {
	var table []string
	for _, f := range fields {
		table = append(table, f.path)
		if f.verdict != honoured && f.verdict != notHonoured || f.text == "" {
			t.Errorf("%s: verdict %q, text %q", f.path, f.verdict, f.text)
		}
		if f.does != "" && f.verdict == honoured {
			t.Errorf("%s: is honoured and says besides what happens anyway", f.path)
		}
	}
	upstream := leaves(reflect.TypeFor[kubeletconfig.KubeletConfiguration](), "")
	for _, path := range upstream {
		if !slices.Contains(table, path) {
			t.Errorf("the kubelet's field %s is not in the table", path)
		}
	}
	for _, path := range table {
		if !slices.Contains(upstream, path) {
			t.Errorf("the table's field %s is not one of the kubelet's", path)
		}
	}
	if !t.Failed() && !slices.Equal(table, upstream) {
		t.Error("the table is not in the order of the type, or has a field twice")
	}
}

// kubeletFlags are the names of all flags of the kubelet 1.36 (its --help, without
// those of Windows builds and help).
const kubeletFlags = `address allowed-unsafe-sysctls anonymous-auth application-metrics-count-limit authentication-token-webhook
authentication-token-webhook-cache-ttl authorization-mode authorization-webhook-cache-authorized-ttl
authorization-webhook-cache-unauthorized-ttl boot-id-file bootstrap-kubeconfig cert-dir cgroup-driver cgroup-root
cgroups-per-qos client-ca-file cloud-provider cluster-dns cluster-domain config config-dir container-hints
container-log-max-files container-log-max-size container-runtime-endpoint containerd containerd-namespace
contention-profiling cpu-cfs-quota cpu-cfs-quota-period cpu-manager-policy cpu-manager-policy-options
cpu-manager-reconcile-period enable-controller-attach-detach enable-debugging-handlers enable-load-reader enable-server
enforce-node-allocatable event-burst event-qps event-storage-age-limit event-storage-event-limit eviction-hard
eviction-max-pod-grace-period eviction-minimum-reclaim eviction-pressure-transition-period eviction-soft
eviction-soft-grace-period exit-on-lock-contention experimental-allocatable-ignore-eviction experimental-mounter-path
fail-cgroupv1 fail-swap-on feature-gates file-check-frequency global-housekeeping-interval hairpin-mode
healthz-bind-address healthz-port hostname-override housekeeping-interval http-check-frequency
image-credential-provider-bin-dir image-credential-provider-config image-gc-high-threshold image-gc-low-threshold
image-service-endpoint kernel-memcg-notification kube-api-burst kube-api-content-type kube-api-qps kube-reserved
kube-reserved-cgroup kubeconfig kubelet-cgroups local-storage-capacity-isolation lock-file log-cadvisor-usage
log-flush-frequency log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
logging-format machine-id-file make-iptables-util-chains manifest-url manifest-url-header max-open-files max-pods
maximum-dead-containers maximum-dead-containers-per-container memory-manager-policy minimum-container-ttl-duration
minimum-image-ttl-duration node-ip node-labels node-status-max-images node-status-update-frequency oom-score-adj pod-cidr
pod-manifest-path pod-max-pids pods-per-core port protect-kernel-defaults provider-id qos-reserved read-only-port
register-node register-with-taints registry-burst registry-qps reserved-cpus reserved-memory resolv-conf root-dir
rotate-certificates rotate-server-certificates runonce runtime-cgroups runtime-request-timeout seccomp-default
serialize-image-pulls storage-driver-buffer-duration storage-driver-db storage-driver-host storage-driver-password
storage-driver-secure storage-driver-table storage-driver-user streaming-connection-idle-timeout sync-frequency
system-cgroups system-reserved system-reserved-cgroup tls-cert-file tls-cipher-suites tls-min-version tls-private-key-file
topology-manager-policy topology-manager-policy-options topology-manager-scope v vmodule volume-plugin-dir
volume-stats-agg-period`

// dockershimFlags are those of the kubelet 1.23 that came with its dockershim.
const dockershimFlags = `cni-bin-dir cni-cache-dir cni-conf-dir container-runtime docker-endpoint
experimental-dockershim-root-directory hairpin-mode image-pull-progress-deadline network-plugin network-plugin-mtu
non-masquerade-cidr pod-infra-container-image`

func TestEveryFlagOfTheKubeletIsKnown(t *testing.T) {
	known := map[string]bool{"config": true, "config-dir": true}
	for _, f := range flags {
		if known[f.name] {
			t.Errorf("--%s is in the table twice", f.name)
		}
		known[f.name] = true
		if f.text == "" || f.verdict == "" {
			t.Errorf("--%s: verdict %q, text %q", f.name, f.verdict, f.text)
		}
	}
	for _, name := range strings.Fields(kubeletFlags + " " + dockershimFlags) {
		if !known[name] {
			t.Errorf("the kubelet's flag --%s is not in the table", name)
		}
	}
}

func TestEveryFlagOfAFieldReachesIt(t *testing.T) {
	for i := range flags {
		f := &flags[i]
		if f.field == "" {
			continue
		}
		if _, ok := fieldsByPath[f.field]; !ok {
			t.Errorf("--%s: there is no field %s", f.name, f.field)
			continue
		}
		v := &flagValue{flags: &Flags{}, flag: f, scratch: newConfig()}
		sample := map[string]string{"bool": "true", "int": "7", "duration": "7s", "list": "a,b", "map": "a=b", "string": "x"}[v.Type()]
		switch f.name {
		case "eviction-hard", "eviction-soft":
			sample = "memory.available<7Mi"
		case "feature-gates":
			sample = "A=true"
		case "manifest-url-header":
			sample = "a:b"
		case "log-json-info-buffer-size", "log-text-info-buffer-size":
			sample = "7Ki"
		case "vmodule":
			sample = "a=7"
		case "register-with-taints":
			sample = "a=b:NoSchedule"
		case "reserved-memory":
			sample = "0:memory=7Gi"
		}
		if err := v.Set(sample); err != nil {
			t.Errorf("--%s=%s: %v", f.name, sample, err)
			continue
		}
		before := jsonOf(&newConfig().KubeletConfiguration, f.field)
		if after := jsonOf(&v.scratch.KubeletConfiguration, f.field); after == before {
			t.Errorf("--%s=%s leaves %s at %s", f.name, sample, f.field, after)
		}
	}
}

func TestDefaultsAreAsReviewed(t *testing.T) {
	text, err := yaml.Marshal(defaultedConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/defaults.yaml", string(text))
}

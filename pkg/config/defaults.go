package config

import (
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
)

// defaults returns the values of fields that nobody sets: those of the kubelet
// 1.37, except where a comment says otherwise.
func defaults() *kubeletconfig.KubeletConfiguration {
	every := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	d := &kubeletconfig.KubeletConfiguration{
		// Pods.
		SyncFrequency:         every(time.Minute),
		FileCheckFrequency:    every(20 * time.Second),
		HTTPCheckFrequency:    every(20 * time.Second),
		PodLogsDir:            "/var/log/pods",
		MaxPods:               110,
		PodPidsLimit:          ptr.To[int64](-1),
		ResolverConfig:        ptr.To("/etc/resolv.conf"),
		HairpinMode:           kubeletconfig.PromiscuousBridge,
		SeccompDefault:        ptr.To(false),
		RuntimeRequestTimeout: every(2 * time.Minute),
		CrashLoopBackOff:      kubeletconfig.CrashLoopBackOffConfig{MaxContainerRestartPeriod: ptr.To(every(5 * time.Minute))},

		// Serving.
		EnableServer:                   ptr.To(true),
		Address:                        "0.0.0.0",
		Port:                           10250,
		HealthzPort:                    ptr.To[int32](10248),
		HealthzBindAddress:             "127.0.0.1",
		EnableDebuggingHandlers:        ptr.To(true),
		EnableSystemLogHandler:         ptr.To(false), // the kubelet has true: all of /var/log for anybody who may read node logs
		EnableProfilingHandler:         ptr.To(true),
		EnableDebugFlagsHandler:        ptr.To(true),
		StreamingConnectionIdleTimeout: every(4 * time.Hour),
		Authentication: kubeletconfig.KubeletAuthentication{
			Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: ptr.To(false)},
			Webhook:   kubeletconfig.KubeletWebhookAuthentication{Enabled: ptr.To(true), CacheTTL: every(2 * time.Minute)},
		},
		Authorization: kubeletconfig.KubeletAuthorization{
			Mode: kubeletconfig.KubeletAuthorizationModeWebhook,
			Webhook: kubeletconfig.KubeletWebhookAuthorization{
				CacheAuthorizedTTL:   every(5 * time.Minute),
				CacheUnauthorizedTTL: every(30 * time.Second),
			},
		},

		// Images.
		RegistryPullQPS:                        ptr.To[int32](5),
		RegistryBurst:                          10,
		ImageMinimumGCAge:                      every(2 * time.Minute),
		ImageGCHighThresholdPercent:            ptr.To[int32](85),
		ImageGCLowThresholdPercent:             ptr.To[int32](80),
		ImagePullCredentialsVerificationPolicy: kubeletconfig.NeverVerifyPreloadedImages,

		// Node.
		OOMScoreAdj:               ptr.To[int32](-999),
		MaxOpenFiles:              1000000,
		NodeStatusUpdateFrequency: every(10 * time.Second),
		NodeStatusReportFrequency: every(5 * time.Minute),
		NodeLeaseDurationSeconds:  40,
		NodeStatusMaxImages:       ptr.To[int32](50),
		RegisterNode:              ptr.To(true),
		MakeIPTablesUtilChains:    ptr.To(true),
		IPTablesMasqueradeBit:     ptr.To[int32](14),
		IPTablesDropBit:           ptr.To[int32](15),
		// The kubelet has true in both. Hosts with the Docker versions that we support are
		// often on cgroup v1, and a machine that has swap runs pods without it.
		FailCgroupV1: ptr.To(false),
		FailSwapOn:   ptr.To(false),

		// API server.
		EventRecordQPS: ptr.To[int32](50),
		EventBurst:     100,
		KubeAPIQPS:     ptr.To[int32](50),
		KubeAPIBurst:   100,
		ContentType:    "application/vnd.kubernetes.protobuf",
		ConfigMapAndSecretChangeDetectionStrategy: kubeletconfig.WatchChangeDetectionStrategy,

		// Resources. CgroupDriver stays empty, which means Docker's; the kubelet has
		// "cgroupfs" there, and a mismatch was the most common reason why it failed to
		// start.
		CgroupsPerQOS:                    ptr.To(true),
		CPUManagerPolicy:                 "none",
		CPUManagerReconcilePeriod:        every(10 * time.Second),
		CPUCFSQuota:                      ptr.To(true),
		CPUCFSQuotaPeriod:                ptr.To(every(100 * time.Millisecond)),
		MemoryManagerPolicy:              kubeletconfig.NoneMemoryManagerPolicy,
		MemoryReservationPolicy:          kubeletconfig.NoneMemoryReservationPolicy,
		TopologyManagerPolicy:            kubeletconfig.NoneTopologyManagerPolicy,
		TopologyManagerScope:             kubeletconfig.ContainerTopologyManagerScope,
		EnforceNodeAllocatable:           []string{"pods"},
		EvictionPressureTransitionPeriod: every(5 * time.Minute),
		MergeDefaultEvictionSettings:     ptr.To(false),

		// Volumes and logs.
		VolumeStatsAggPeriod:          every(time.Minute),
		VolumePluginDir:               "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
		EnableControllerAttachDetach:  ptr.To(true),
		LocalStorageCapacityIsolation: ptr.To(true),
		ContainerLogMaxSize:           "10Mi",
		ContainerLogMaxFiles:          ptr.To[int32](5),
		ContainerLogMaxWorkers:        ptr.To[int32](1),
		ContainerLogMonitorInterval:   ptr.To(every(10 * time.Second)),

		// ContainerRuntimeEndpoint stays empty, which means the built-in dockershim; the
		// kubelet has containerd's socket there.
	}
	logsapi.SetRecommendedLoggingConfiguration(&d.Logging)
	return d
}

// defaultEvictionHard is the kubelet's, for Linux.
func defaultEvictionHard() map[string]string {
	return map[string]string{
		"memory.available":   "100Mi",
		"nodefs.available":   "10%",
		"nodefs.inodesFree":  "5%",
		"imagefs.available":  "15%",
		"imagefs.inodesFree": "5%",
	}
}

// setDefaults completes what was not set. A zero counts as not set, as in the
// kubelet, unless the field is a pointer or a flag says so.
func setDefaults(c *Config) {
	k := &c.KubeletConfiguration
	k.TypeMeta = metav1.TypeMeta{Kind: configKind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}

	// Defaults that depend on another field.
	if k.SerializeImagePulls == nil {
		k.SerializeImagePulls = ptr.To(k.MaxParallelImagePulls == nil || *k.MaxParallelImagePulls < 2)
	}
	if k.NodeStatusReportFrequency.Duration == 0 && k.NodeStatusUpdateFrequency.Duration != 0 {
		k.NodeStatusReportFrequency = k.NodeStatusUpdateFrequency
	}
	if k.PodPidsLimit != nil && *k.PodPidsLimit < 0 {
		k.PodPidsLimit = nil
	}
	switch {
	case k.EvictionHard == nil:
		k.EvictionHard = defaultEvictionHard()
	case ptr.Deref(k.MergeDefaultEvictionSettings, false):
		for signal, threshold := range defaultEvictionHard() {
			if _, set := k.EvictionHard[signal]; !set {
				k.EvictionHard[signal] = threshold
			}
		}
	}
	if k.UserNamespaces != nil && k.UserNamespaces.IDsPerPod == nil {
		k.UserNamespaces.IDsPerPod = ptr.To[int64](65536)
	}
	// The kubelet keeps this port closed. Standalone it is the only way to see what
	// runs, so it is open there, on loopback, unless someone set 0.
	if k.ReadOnlyPort == 0 && c.Standalone() && !c.origins.has("readOnlyPort") {
		k.ReadOnlyPort = DefaultReadOnlyPort
	}
	// For components of a cluster; a standalone node leaves the machine's tables alone.
	if k.MakeIPTablesUtilChains == nil && c.Standalone() {
		k.MakeIPTablesUtilChains = ptr.To(false)
	}
	c.fill(reflect.ValueOf(k).Elem(), reflect.ValueOf(defaults()).Elem(), "")
}

// fill copies from src every field that is zero in dst and that no flag has set, descending into structs.
func (c *Config) fill(dst, src reflect.Value, path string) {
	if isObject(dst.Type()) {
		for i := range dst.NumField() {
			tag, _, _ := strings.Cut(dst.Type().Field(i).Tag.Get("json"), ",")
			c.fill(dst.Field(i), src.Field(i), join(path, tag))
		}
		return
	}
	if dst.IsZero() && !strings.HasPrefix(c.origins[path], "--") {
		dst.Set(src)
	}
}

package criconfig

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// DefaultSeccompRoot is where Localhost seccomp profiles lie.
const DefaultSeccompRoot = "/var/lib/kubelet/seccomp"

// appArmorAnnotation, followed by a container's name, is how profiles were named
// before the field existed; it still counts if the field is unset.
const appArmorAnnotation = "container.apparmor.security.beta.kubernetes.io/"

// Parts of /proc and /sys that containers with the default procMount cannot see, or
// cannot write.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
)

// effective returns the container's security context; what it leaves unset is taken
// from the pod's.
func effective(pod *v1.Pod, c *v1.Container) v1.SecurityContext {
	var e v1.SecurityContext
	if c.SecurityContext != nil {
		e = *c.SecurityContext
	}
	p := pod.Spec.SecurityContext
	if p == nil {
		return e
	}
	if e.SELinuxOptions == nil {
		e.SELinuxOptions = p.SELinuxOptions
	}
	if e.RunAsUser == nil {
		e.RunAsUser = p.RunAsUser
	}
	if e.RunAsGroup == nil {
		e.RunAsGroup = p.RunAsGroup
	}
	if e.RunAsNonRoot == nil {
		e.RunAsNonRoot = p.RunAsNonRoot
	}
	if e.SeccompProfile == nil {
		e.SeccompProfile = p.SeccompProfile
	}
	if e.AppArmorProfile == nil && pod.Annotations[appArmorAnnotation+c.Name] == "" {
		e.AppArmorProfile = p.AppArmorProfile
	}
	return e
}

func containerSecurity(pod *v1.Pod, c *v1.Container, in ContainerInput) (*cri.LinuxContainerSecurityContext, error) {
	e := effective(pod, c)
	uid, username, known := imageUser(in.Image)
	if err := verifyNonRoot(pod, c, e, uid, username, known); err != nil {
		return nil, err
	}
	s := &cri.LinuxContainerSecurityContext{
		NamespaceOptions: containerNamespaces(pod, in.TargetID),
		RunAsUser:        int64Value(e.RunAsUser),
		RunAsGroup:       int64Value(e.RunAsGroup),
		SelinuxOptions:   seLinux(e.SELinuxOptions),
		Privileged:       ptr.Deref(e.Privileged, false),
		ReadonlyRootfs:   ptr.Deref(e.ReadOnlyRootFilesystem, false),
		NoNewPrivs:       e.AllowPrivilegeEscalation != nil && !*e.AllowPrivilegeEscalation,
		MaskedPaths:      maskedPaths,
		ReadonlyPaths:    readonlyPaths,
	}
	if s.RunAsUser == nil && known {
		s.RunAsUser, s.RunAsUsername = int64Value(uid), username
	}
	if e.ProcMount != nil && *e.ProcMount == v1.UnmaskedProcMount {
		s.MaskedPaths, s.ReadonlyPaths = []string{}, []string{}
	}
	if caps := e.Capabilities; caps != nil {
		s.Capabilities = &cri.Capability{}
		for _, a := range caps.Add {
			s.Capabilities.AddCapabilities = append(s.Capabilities.AddCapabilities, string(a))
		}
		for _, d := range caps.Drop {
			s.Capabilities.DropCapabilities = append(s.Capabilities.DropCapabilities, string(d))
		}
	}
	if p := pod.Spec.SecurityContext; p != nil {
		s.SupplementalGroups, s.SupplementalGroupsPolicy = podGroups(p)
	}
	if in.Volumes != nil {
		for _, gid := range in.Volumes.Groups(pod) {
			if !slices.Contains(s.SupplementalGroups, gid) {
				s.SupplementalGroups = append(s.SupplementalGroups, gid)
			}
		}
	}
	var err error
	if s.Seccomp, err = seccomp(e.SeccompProfile, in.Node); err != nil {
		return nil, err
	}
	if s.Apparmor, err = appArmor(e.AppArmorProfile, pod.Annotations[appArmorAnnotation+c.Name]); err != nil {
		return nil, err
	}
	return s, nil
}

// imageUser returns the user that the image runs as: a number, a name, or root when
// it names none. known is false without an image status.
func imageUser(img *cri.Image) (uid *int64, username string, known bool) {
	switch {
	case img == nil:
		return nil, "", false
	case img.Uid != nil:
		n := img.Uid.Value
		return &n, "", true
	case img.Username != "":
		return nil, img.Username, true
	}
	return new(int64), "", true
}

// verifyNonRoot checks runAsNonRoot against the user that the container would run
// as.
func verifyNonRoot(pod *v1.Pod, c *v1.Container, e v1.SecurityContext, uid *int64, username string, known bool) error {
	if !ptr.Deref(e.RunAsNonRoot, false) {
		return nil
	}
	where := func(text string) error {
		return containerErrorf("%s (pod: %q, container: %s)", text, formatPod(pod), c.Name)
	}
	switch {
	case e.RunAsUser != nil && *e.RunAsUser == 0:
		return where("container's runAsUser breaks non-root policy")
	case e.RunAsUser != nil:
		return nil
	case !known:
		return where("container has runAsNonRoot and the image's user is not known, cannot verify user is non-root")
	case uid != nil && *uid == 0:
		return where("container has runAsNonRoot and image will run as root")
	case uid != nil && (*uid < 0 || *uid > math.MaxInt32): // runtimes look for it in the image's passwd, or cut it off
		return where(fmt.Sprintf("container has runAsNonRoot and image's user %d is no user ID, cannot verify user is non-root", *uid))
	case uid == nil:
		return where("container has runAsNonRoot and image has non-numeric user (" + username + "), cannot verify user is non-root")
	}
	return nil
}

// podGroups returns the groups that every process of the pod is in beside its own:
// first fsGroup, through which volumes are shared.
func podGroups(sc *v1.PodSecurityContext) ([]int64, cri.SupplementalGroupsPolicy) {
	var groups []int64
	if sc.FSGroup != nil {
		groups = append(groups, *sc.FSGroup)
	}
	groups = append(groups, sc.SupplementalGroups...)
	policy := cri.SupplementalGroupsPolicy_Merge
	if p := sc.SupplementalGroupsPolicy; p != nil && *p == v1.SupplementalGroupsPolicyStrict {
		policy = cri.SupplementalGroupsPolicy_Strict
	}
	return groups, policy
}

func seLinux(o *v1.SELinuxOptions) *cri.SELinuxOption {
	if o == nil {
		return nil
	}
	return &cri.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func seccomp(p *v1.SeccompProfile, node NodeConfig) (*cri.SecurityProfile, error) {
	if p == nil {
		t := cri.SecurityProfile_Unconfined
		if node.SeccompDefault {
			t = cri.SecurityProfile_RuntimeDefault
		}
		return &cri.SecurityProfile{ProfileType: t}, nil
	}
	switch p.Type {
	case v1.SeccompProfileTypeRuntimeDefault:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, nil
	case v1.SeccompProfileTypeUnconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, nil
	case v1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, containerErrorf("localhostProfile must be set if seccompProfile type is Localhost.")
		}
		if err := bounds.Path(*p.LocalhostProfile); err != nil {
			return nil, containerErrorf("seccomp localhostProfile %w", err)
		}
		if !filepath.IsLocal(*p.LocalhostProfile) {
			return nil, containerErrorf("seccomp localhostProfile %q must be a path below the node's profile directory", bounds.Quote(*p.LocalhostProfile))
		}
		root := node.SeccompRoot
		if root == "" {
			root = DefaultSeccompRoot
		}
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: filepath.Join(root, *p.LocalhostProfile)}, nil
	}
	return nil, containerErrorf("seccompProfile type %q is not known", p.Type)
}

// appArmor converts the field, or the old annotation if the field is unset, to
// CRI's form; nil leaves the choice to the runtime.
func appArmor(p *v1.AppArmorProfile, annotation string) (*cri.SecurityProfile, error) {
	if p == nil {
		switch localhost, ok := strings.CutPrefix(annotation, v1.DeprecatedAppArmorBetaProfileNamePrefix); {
		case annotation == "":
			return nil, nil
		case ok:
			p = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &localhost}
		case annotation == v1.DeprecatedAppArmorBetaProfileRuntimeDefault:
			p = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
		case annotation == v1.DeprecatedAppArmorBetaProfileNameUnconfined:
			p = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
		default:
			return nil, containerErrorf("invalid AppArmor profile name: %q", bounds.Quote(annotation))
		}
	}
	switch p.Type {
	case v1.AppArmorProfileTypeRuntimeDefault:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, nil
	case v1.AppArmorProfileTypeUnconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, nil
	case v1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, containerErrorf("localhostProfile must be set if appArmorProfile type is Localhost")
		}
		if err := bounds.Path(*p.LocalhostProfile); err != nil { // the kernel accepts no longer names
			return nil, containerErrorf("AppArmor localhostProfile %w", err)
		}
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}, nil
	}
	return nil, containerErrorf("appArmorProfile type %q is not known", p.Type)
}

func hasPrivilegedContainer(pod *v1.Pod) bool {
	for _, c := range pods.AllContainers(pod) {
		if sc := c.SecurityContext; sc != nil && ptr.Deref(sc.Privileged, false) {
			return true
		}
	}
	return false
}

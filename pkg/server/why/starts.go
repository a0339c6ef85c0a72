package why

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// begun reports whether a container of the pod has ever been created.
func (l *look) begun() bool {
	return slices.ContainsFunc(l.statuses(), func(s v1.ContainerStatus) bool {
		return s.ContainerID != "" || s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil ||
			s.State.Waiting != nil && s.State.Waiting.Reason != "ContainerCreating" && s.State.Waiting.Reason != "PodInitializing"
	})
}

// nameTaken is about a static pod that replaces one which is not gone yet.
func nameTaken(l *look) *Finding {
	if l.pod.DeletionTimestamp != nil || l.begun() {
		return nil
	}
	for _, other := range l.in.Pods {
		if other.UID == l.pod.UID || other.DeletionTimestamp == nil || pods.NameOf(other) != pods.NameOf(l.pod) {
			continue
		}
		grace := int64(30)
		if other.DeletionGracePeriodSeconds != nil {
			grace = *other.DeletionGracePeriodSeconds
		}
		return &Finding{
			Cause: "Pending: waits for the pod of the same name that it replaces, UID " + string(other.UID),
			Fix:   fmt.Sprintf("wait: its grace period is %d s; a shorter spec.terminationGracePeriodSeconds makes the next replacement faster", grace),
			Where: l.where("spec.terminationGracePeriodSeconds"), AtOnce: "that pod is gone",
		}
	}
	return nil
}

// inTheWay returns the newest event with the reason, unless the pod has got further since: a sandbox or a volume
// that was made is told by what comes after it.
func (l *look) inTheWay(reasons ...string) *journal.Shown {
	if l.begun() {
		return nil
	}
	e := l.last(reasons...)
	if e == nil {
		return nil
	}
	for i := range l.events {
		if later := &l.events[i]; later.Seq > e.Seq && later.Kind == journal.Said.String() && slices.Contains([]string{"Pulling", "Pulled", "Created", "Started"}, later.Reason) {
			return nil
		}
	}
	return e
}

func networkAway(l *look) *Finding {
	e := l.last("NetworkNotReady")
	if e == nil || l.inTheWay("NetworkNotReady", "FailedMount", "FailedCreatePodSandBox") != e {
		return nil
	}
	return &Finding{
		Cause: "Pending: " + strings.TrimSuffix(e.Detail, "."), Fix: "install or mend the network plug-in of the node; pods with spec.hostNetwork start without", AtOnce: "the network is ready",
	}
}

// notMounted is about what a pod has of the node and does not get: volumes, above all.
func notMounted(l *look) *Finding {
	e := l.inTheWay("FailedMount", "FailedMapVolume", "FailedAttachVolume", "VolumeResizeFailed", "DevicesNotReady", "FailedCreatePodContainer", "FailedCreatePodSandBox")
	if e == nil || e.Reason == "FailedCreatePodSandBox" {
		return nil
	}
	f := &Finding{Cause: "Pending: " + e.Detail, Fix: "mend that", Where: l.where("spec.volumes"), Next: l.next("")}
	name, reason, ok := volumeFailure(e.Detail)
	if !ok {
		return f
	}
	for i := range l.pod.Spec.Volumes {
		if v := &l.pod.Spec.Volumes[i]; v.Name == name {
			l.volume(f, v, fmt.Sprintf("spec.volumes[%d]", i), reason)
			return f
		}
	}
	return f
}

// volumeFailure reads `MountVolume.SetUp failed for volume "v" : reason`.
func volumeFailure(message string) (volume, reason string, ok bool) {
	_, rest, ok := strings.Cut(message, `failed for volume "`)
	if !ok {
		return "", "", false
	}
	volume, reason, ok = strings.Cut(rest, `" : `)
	return volume, reason, ok
}

func (l *look) volume(f *Finding, v *v1.Volume, field, reason string) {
	at := func(part string) { field += part }
	f.Fix = "correct it"
	switch {
	case v.ConfigMap != nil:
		at(".configMap")
		field = l.object(f, "ConfigMap", v.ConfigMap.Name, field, ".name", reason, itemsField(v.ConfigMap.Items, reason))
	case v.Secret != nil:
		at(".secret")
		field = l.object(f, "Secret", v.Secret.SecretName, field, ".secretName", reason, itemsField(v.Secret.Items, reason))
	case v.Projected != nil:
		at(".projected")
		for i, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil && mentions(reason, s.ConfigMap.Name):
				field = l.object(f, "ConfigMap", s.ConfigMap.Name, fmt.Sprintf("%s.sources[%d].configMap", field, i), ".name", reason, itemsField(s.ConfigMap.Items, reason))
			case s.Secret != nil && mentions(reason, s.Secret.Name):
				field = l.object(f, "Secret", s.Secret.Name, fmt.Sprintf("%s.sources[%d].secret", field, i), ".name", reason, itemsField(s.Secret.Items, reason))
			default:
				continue
			}
			break
		}
	case v.PersistentVolumeClaim != nil:
		at(".persistentVolumeClaim.claimName")
		l.claim(f, v.PersistentVolumeClaim.ClaimName, field, reason)
		return
	case v.HostPath != nil && strings.Contains(reason, "type check failed"):
		at(".hostPath.type")
		f.Fix = "make it on the node, or give " + field + " another value"
	case v.HostPath != nil:
		at(".hostPath.path")
		f.Fix = "correct " + field + ", or make it on the node"
	case v.NFS != nil:
		at(".nfs")
		f.Fix = "correct " + field + ", or mend its server"
	case v.ISCSI != nil:
		at(".iscsi")
		f.Fix = "correct " + field + ", or mend its target"
	case v.Image != nil:
		at(".image.reference")
		f.Fix = "correct " + field
	default:
		f.Fix = "correct " + field
	}
	if _, how, ok := strings.Cut(reason, ": install "); ok {
		reason = strings.TrimSuffix(reason, ": install "+how)
		f.Fix = "install " + how + " on the node"
	}
	f.Cause = fmt.Sprintf("Pending: volume %s (%s) cannot be mounted: %s", v.Name, field, reason)
	f.Where = l.where(field)
}

// mentions reports whether a message quotes a name, or has it as a word.
func mentions(message, name string) bool {
	return strings.Contains(message, fmt.Sprintf("%q", name)) || slices.Contains(strings.FieldsFunc(message, func(r rune) bool { return r == ' ' || r == ':' || r == '/' || r == ',' }), name)
}

// itemsField returns which item of a volume wants the key that a message says does not exist.
func itemsField(items []v1.KeyToPath, reason string) string {
	for i, item := range items {
		if mentions(reason, item.Key) {
			return fmt.Sprintf(".items[%d].key", i)
		}
	}
	return ""
}

// object words what is wrong with a ConfigMap or Secret that is referred to, and returns the field to blame. item is the field
// below it that names a missing key, "" if the object itself is missing.
func (l *look) object(f *Finding, kind, name, field, nameField, reason, item string) string {
	f.AtOnce = "the " + kind + " changes"
	keys, found := l.in.Evidence.Keys(l.ctx, kind, l.pod.Namespace, name)
	switch {
	case !found:
		field += nameField
		f.Fix = fmt.Sprintf("add the %s %s to namespace %s, or correct %s", kind, name, l.pod.Namespace, field)
		f.AtOnce = "it is there"
		return field
	case item != "" || strings.Contains(reason, "key"):
		field += item
		f.Evidence, f.Fix = keysOf(kind, name, keys), fmt.Sprintf("add the key to %s %s, or correct %s", kind, name, field)
		return field
	}
	f.Fix = "correct " + field
	return field
}

// keysOf says which keys an object has; never what they hold.
func keysOf(kind, name string, keys []string) string {
	if len(keys) == 0 {
		return fmt.Sprintf("%s %s has no keys", kind, name)
	}
	more := ""
	if len(keys) > mostKeys {
		more = fmt.Sprintf(" and %d more", len(keys)-mostKeys)
		keys = keys[:mostKeys]
	}
	return fmt.Sprintf("%s %s has %s%s", kind, name, strings.Join(keys, ", "), more)
}

const mostKeys = 10

// claim is about a PersistentVolumeClaim: one that is missing, has no volume, or whose volume cannot be used.
func (l *look) claim(f *Finding, name, field, reason string) {
	id := types.NamespacedName{Namespace: l.pod.Namespace, Name: name}
	wants, volumes, unbound := l.in.Evidence.Unsuitable(id.Namespace, id.Name)
	switch {
	case unbound:
		f.Cause = fmt.Sprintf("Pending: claim %s (%s) has no volume: it wants %s", name, field, wants)
		f.Evidence = strings.Join(volumes, "; ")
		if f.Evidence == "" {
			f.Evidence = "the manifests have no PersistentVolume"
		}
		f.Fix, f.Where = "add a PersistentVolume that suits the claim, or change spec.storageClassName or spec.resources.requests.storage of it", l.in.Evidence.Where("PersistentVolumeClaim", id, "spec")
		f.AtOnce = "a volume suits"
	case strings.Contains(reason, "not found"):
		f.Cause = fmt.Sprintf("Pending: %s asks for a claim that is not there: %s", field, after(reason, ": "))
		f.Fix, f.Where, f.AtOnce = "add a PersistentVolumeClaim "+name+", or correct "+field, l.where(field), "it is there"
	case strings.Contains(reason, "is not bound"):
		f.Cause = fmt.Sprintf("Pending: claim %s (%s) has no volume: %s", name, field, reason)
		f.Fix, f.Where = "add a PersistentVolume that suits the claim", l.where(field)
	case strings.Contains(reason, "volumeDevices") || strings.Contains(reason, "volumeMounts"):
		f.Cause = fmt.Sprintf("Pending: volume of claim %s (%s) cannot be mounted: %s", name, field, reason)
		f.Fix, f.Where = "use volumeMounts for volumes of volumeMode Filesystem and volumeDevices for Block", l.where(field)
	default:
		f.Cause = fmt.Sprintf("Pending: the volume of claim %s (%s) cannot be mounted: %s", name, field, reason)
		f.Fix, f.Where = "correct the claim's PersistentVolume, or mend what it says is there", l.where(field)
	}
}

// noSandbox is about pods whose sandbox cannot be made.
func noSandbox(l *look) *Finding {
	e := l.inTheWay("FailedCreatePodSandBox", "FailedPodSandBoxStatus")
	if e == nil {
		return nil
	}
	f := &Finding{Cause: "Pending: its sandbox cannot be made: " + after(e.Detail, "sandbox: "), Fix: "mend what the runtime says", Where: l.where("spec"), Next: l.next("")}
	switch {
	case strings.Contains(e.Detail, "port is already allocated") || strings.Contains(e.Detail, "address already in use"):
		f.Fix = "give the container another hostPort, or stop what has it: `ss -ltunp` on the node names it"
		for _, p := range hostPorts(l.pod) {
			if names(e.Detail, p.port) {
				f.Fix, f.Where = "give "+p.field+" another value, or stop what has the port: "+l.holder(p), l.where(p.field)
				break
			}
		}
	case strings.Contains(e.Detail, "RuntimeClass") || strings.Contains(e.Detail, "runtime handler"):
		f.Fix, f.Where = "correct spec.runtimeClassName", l.where("spec.runtimeClassName")
	case strings.Contains(e.Detail, "sysctl"):
		f.Fix, f.Where = "correct spec.securityContext.sysctls", l.where("spec.securityContext.sysctls")
	case strings.Contains(e.Detail, "network") || strings.Contains(e.Detail, "CNI"):
		f.Fix = "mend the network plug-in of the node"
	}
	return f
}

// address is an address of the node in an error of a runtime. What follows it may be the container's: 0.0.0.0:8080:172.17.0.2:80/tcp
var address = regexp.MustCompile(`(?:^|[\s"'(/])(?:\[[0-9a-fA-F:.%]*\]|::|[0-9.]*):(\d+)\b`)

// names reports whether an error of a runtime has an address of the node with that port.
func names(text string, port int32) bool {
	return slices.ContainsFunc(address.FindAllStringSubmatch(text, -1), func(found []string) bool { return found[1] == strconv.Itoa(int(port)) })
}

// dockerProxy is the program by which Docker holds the host ports of containers.
const dockerProxy = "docker-proxy"

// holder says who has a port of the node, or how to find out.
func (l *look) holder(p hostPort) string {
	if p.protocol == v1.ProtocolTCP {
		if h, known := l.in.Evidence.Holder(l.ctx, p.ip, p.port); known && h.Name == dockerProxy {
			return fmt.Sprintf("a container of Docker, which `docker ps --filter publish=%d` names", p.port)
		} else if known {
			return fmt.Sprintf("process %d (%s)", h.PID, h.Name)
		}
	}
	return "`ss -ltunp` on the node names it"
}

// containerWaits is about the first container that waits for something that somebody must mend.
func containerWaits(l *look) *Finding {
	for _, s := range slices.Concat(l.statuses(), l.pod.Status.EphemeralContainerStatuses) {
		w := s.State.Waiting
		if w == nil {
			continue
		}
		f := &Finding{Cause: fmt.Sprintf("%s: %s: %s", w.Reason, l.title(s.Name), w.Message), Next: l.next(s.Name)}
		field := l.containerField(s.Name)
		switch w.Reason {
		case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed", "ErrImageVolume", "ErrImageVolumePull":
			l.image(f, &s, field)
		case "CreateContainerConfigError":
			l.configuration(f, &s, field)
		case "CreateContainerError", "RunContainerError", "PreStartHookError":
			l.creation(f, s.Name, w.Reason, w.Message, field)
		case "PostStartHookError":
			f.Fix, f.Where = "mend the hook, or what it runs", l.where(field+".lifecycle.postStart")
		case "CrashLoopBackOff":
			return l.crashes(f, &s, field)
		default:
			continue // it is on its way
		}
		return f
	}
	return nil
}

// image is about images that are not there.
func (l *look) image(f *Finding, s *v1.ContainerStatus, field string) {
	w := s.State.Waiting
	field += ".image"
	f.Where = l.where(field)
	reason := w.Message
	if w.Reason == "ImagePullBackOff" {
		if e := l.pullError(s.Name); !strings.Contains(reason, "ErrImagePull: ") && e != "" {
			reason = e
		}
		reason = after(reason, "ErrImagePull: ")
	}
	f.Cause = fmt.Sprintf("%s: %s (%s): %s", w.Reason, l.title(s.Name), field, reason)
	switch low := strings.ToLower(reason); {
	case w.Reason == "ErrImageNeverPull":
		f.Fix = "load the image into the node's runtime, or take imagePullPolicy Never away"
	case w.Reason == "InvalidImageName":
		f.Fix = "write " + field + " as registry/name:tag in lower case"
	case strings.Contains(low, "unauthorized") || strings.Contains(low, "no basic auth") || strings.Contains(low, "denied"):
		f.Fix = "name a Secret with its credentials in spec.imagePullSecrets, or correct " + field
		if e := l.last("FailedToRetrieveImagePullSecret"); e != nil {
			f.Evidence = e.Detail
		}
	case strings.Contains(low, "not found") || strings.Contains(low, "manifest unknown") || strings.Contains(low, "does not exist"):
		f.Fix = "correct the name or tag in " + field + ", or push it"
	case strings.Contains(low, "no such host") || strings.Contains(low, "connection refused") || strings.Contains(low, "timeout"):
		f.Fix = "correct the registry in " + field + ", or have it reached from the node; an image that is present is not pulled with imagePullPolicy IfNotPresent"
	case strings.Contains(low, "no space left"):
		f.Fix = "free the disk of the node's images"
	default:
		f.Fix = "correct " + field
	}
}

// pulling is about a pod for which an image is being pulled.
func pulling(l *look) *Finding {
	i := slices.IndexFunc(l.events, func(e journal.Shown) bool {
		return e.Kind == journal.Pull.String() && e.TookNS == int64(journal.UnderWay)
	})
	if i < 0 {
		return nil
	}
	e, whose, field := &l.events[i], "", "spec"
	for _, c := range pods.AllContainers(l.pod) {
		if c.Image == e.Name {
			field = l.containerField(c.Name) + ".image"
			whose = fmt.Sprintf("%s (%s)", l.title(c.Name), field)
			break
		}
	}
	return &Finding{
		Cause: join(": ", l.phase(), whose, fmt.Sprintf("image %s is being pulled", e.Name), join(", ", e.Detail, "since "+l.age(e.Time))),
		Fix:   "wait; a pull that gets nothing from the registry is given up by itself", Where: l.where(field),
	}
}

// pullError is why the last pull of a container's image failed, "" if that is not remembered.
func (l *look) pullError(container string) string {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e := &l.events[i]; e.Kind == journal.Said.String() && e.Reason == "Failed" && e.Name == container && strings.HasPrefix(e.Detail, "Failed to pull image") {
			return e.Detail
		}
	}
	return ""
}

// longID is what the agent says before the runtime's words, and helps nobody to find the mistake.
var longID = regexp.MustCompile(`^(start|create) container [0-9a-f]{64}: `)

// creation is about what the runtime refuses to create or to start.
func (l *look) creation(f *Finding, name, reason, m, field string) {
	c, _ := pods.Container(l.pod, name)
	m = longID.ReplaceAllString(m, "")
	f.Fix, f.Where = "correct "+field, l.where(field)
	switch {
	case strings.Contains(m, "privileged containers are impossible"):
		field += ".securityContext.privileged"
		f.Fix = "remove " + field + ", or give Docker the capabilities that it lacks"
	case strings.Contains(m, "executable file not found") || strings.Contains(m, "no such file or directory") && strings.Contains(m, "exec"):
		field += ".command"
		f.Fix = "correct " + field + ", or use an image that has the program"
	case strings.Contains(m, "permission denied") && strings.Contains(m, "exec"):
		field += ".command"
		f.Fix = "make the program in the image executable, or correct " + field
	case strings.Contains(m, "host path") || strings.Contains(m, "hostPath") || strings.Contains(m, "not a directory") || strings.Contains(m, "shared or slave mount"):
		field = l.hostPathField(m)
		f.Fix = "correct " + field + ", or make it on the node"
		if strings.Contains(m, "shared or slave mount") {
			f.Fix = "share the mount of that path on the node with `mount --make-rshared`, or take mountPropagation away"
		}
	case strings.Contains(m, "seccomp"):
		field = l.profileField(c, field)
		f.Fix = "put the profile into the kubelet's seccomp directory on the node, or correct " + field
	case strings.Contains(m, "apparmor") || strings.Contains(m, "AppArmor"):
		field += ".securityContext.appArmorProfile"
		f.Fix = "load the profile into the node's kernel, or correct " + field
	case strings.Contains(m, "already allocated") || strings.Contains(m, "address already in use"):
		field += ".ports"
		f.Fix = "give it another hostPort, or stop what has it"
	}
	f.Where = l.where(field)
	f.Cause = join(": ", reason, fmt.Sprintf("%s (%s)", l.title(name), field), m)
}

// hostPathField returns the volume whose path a message has.
func (l *look) hostPathField(message string) string {
	best, length := "spec.volumes", 0
	for i := range l.pod.Spec.Volumes {
		if h := l.pod.Spec.Volumes[i].HostPath; h != nil && len(h.Path) > length && strings.Contains(message, h.Path) {
			best, length = fmt.Sprintf("spec.volumes[%d].hostPath.path", i), len(h.Path)
		}
	}
	return best
}

// profileField returns where a container's seccomp profile is named.
func (l *look) profileField(c *v1.Container, field string) string {
	const below = "securityContext.seccompProfile.localhostProfile"
	if c != nil && c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		return field + "." + below
	}
	return "spec." + below
}

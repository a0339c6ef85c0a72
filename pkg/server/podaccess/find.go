package podaccess

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// pod finds the pod that is meant. A mirror pod has its static pod's name, but
// another UID. While a static pod is being replaced, two pods have one name, and a
// UID can mean either.
func (a *Access) pod(name types.NamespacedName, uid types.UID) (*v1.Pod, error) {
	if uid != "" {
		if pod, ok := a.cfg.Pods.Get(uid); ok && pod.Namespace == name.Namespace && pod.Name == name.Name {
			return pod, nil
		}
	}
	pod, ok := a.cfg.Pods.ByName(name.Namespace, name.Name)
	if ok && uid != "" && pod.UID != uid {
		mirror, mirrored := a.cfg.Pods.Mirror(pod)
		ok = mirrored && mirror.UID == uid
	}
	if !ok {
		return nil, status.Errorf(codes.NotFound, "pod %q does not exist", name.Name)
	}
	return pod, nil
}

// declared reports whether the pod's spec has a container of that name, of any kind,
// and whether it has a terminal.
func declared(pod *v1.Pod, name string) (ok, tty bool) {
	c, _ := pods.Container(pod, name)
	return c != nil, c != nil && c.TTY
}

// container returns a pod, and the ID of the named container that is running now.
func (a *Access) container(ctx context.Context, name types.NamespacedName, uid types.UID, container string) (*v1.Pod, string, error) {
	pod, err := a.pod(name, uid)
	if err != nil {
		return nil, "", err
	}
	id, err := a.running(ctx, pod, container)
	return pod, id, err
}

// running returns the ID of the container's attempt that is running now. It asks
// the runtime: the published status may lag behind a restart.
func (a *Access) running(ctx context.Context, pod *v1.Pod, name string) (string, error) {
	r, err := a.cfg.CRI.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{pods.LabelPodUID: string(pod.UID), pods.LabelContainerName: name},
	}})
	if err != nil {
		return "", fmt.Errorf("list containers of pod %q: %w", pod.Name, err)
	}
	var newest *cri.Container
	for _, c := range r.GetContainers() {
		if newest == nil || newer(c.GetMetadata().GetAttempt(), newest.GetMetadata().GetAttempt(), c.CreatedAt, newest.CreatedAt) {
			newest = c
		}
	}
	if newest == nil {
		return "", fmt.Errorf("container not found (%q)", name)
	}
	return newest.Id, nil
}

// newer compares attempts before times, since the clock may have been set back between two.
func newer(attempt, than uint32, created, thanCreated int64) bool {
	return cmp.Or(cmp.Compare(attempt, than), cmp.Compare(created, thanCreated)) > 0
}

// sandbox returns the ID of the pod's ready sandbox.
func (a *Access) sandbox(ctx context.Context, pod *v1.Pod) (string, error) {
	r, err := a.cfg.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		State:         &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{pods.LabelPodUID: string(pod.UID)},
	}})
	if err != nil {
		return "", fmt.Errorf("list sandboxes of pod %q: %w", pod.Name, err)
	}
	var newest *cri.PodSandbox
	for _, s := range r.GetItems() {
		if newest == nil || newer(s.GetMetadata().GetAttempt(), newest.GetMetadata().GetAttempt(), s.CreatedAt, newest.CreatedAt) {
			newest = s
		}
	}
	if newest == nil {
		return "", fmt.Errorf("pod not running (%q)", pod.Namespace+"/"+pod.Name)
	}
	return newest.Id, nil
}

// RunningPods returns the pods that had something running when the runtime was last
// looked at, with the containers that ran: names and images only.
func (a *Access) RunningPods(context.Context) ([]*v1.Pod, error) {
	var pods []*v1.Pod
	for _, seen := range a.cfg.Cache.Pods() {
		if !seen.Running() {
			continue
		}
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: seen.UID, Namespace: seen.Namespace, Name: seen.Name}}
		for _, c := range seen.Containers {
			if c.State == actual.StateRunning {
				pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: c.Name, Image: c.ImageID})
			}
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

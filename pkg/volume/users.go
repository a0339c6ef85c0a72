package volume

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// UsersOfClaim returns those of the pods that have a volume of the claim.
func UsersOfClaim(pods []*v1.Pod, namespace, claim string) []types.UID {
	return users(pods, func(pod *v1.Pod, v *v1.Volume) bool {
		return pod.Namespace == namespace && ClaimName(pod, v) == claim
	})
}

// UsersOfDrivers returns those of the pods that have a volume which may be a CSI driver's.
func UsersOfDrivers(pods []*v1.Pod) []types.UID {
	return users(pods, func(pod *v1.Pod, v *v1.Volume) bool { return v.CSI != nil || ClaimName(pod, v) != "" || isMoved(v) })
}

func users(pods []*v1.Pod, uses func(*v1.Pod, *v1.Volume) bool) []types.UID {
	var uids []types.UID
	for _, pod := range pods {
		if slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return uses(pod, &v) }) {
			uids = append(uids, pod.UID)
		}
	}
	return uids
}

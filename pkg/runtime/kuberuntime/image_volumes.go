package kuberuntime

import (
	"context"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pulled is the outcome of pulling a volume's image.
type pulled struct {
	spec *cri.ImageSpec
	err  error
}

// imageVolumes pulls the images that the container mounts as volumes, by their own
// pull policies, and once a pass however many containers mount one. The last error
// is the container's, as in the kubelet.
func (p *pass) imageVolumes(ctx context.Context, c *v1.Container) (map[string]*cri.ImageSpec, error) {
	var specs map[string]*cri.ImageSpec
	var failed error
	for i := range c.VolumeMounts {
		name := c.VolumeMounts[i].Name
		source := imageSource(p.pod, name)
		if source == nil {
			continue
		}
		got, tried := p.images[name]
		if !tried {
			got = p.pullVolume(ctx, source)
			if p.images == nil {
				p.images = map[string]pulled{}
			}
			p.images[name] = got
		}
		if got.err != nil {
			p.failure(ctx, c, brief(got.err))
			failed = got.err
			continue
		}
		if specs == nil {
			specs = map[string]*cri.ImageSpec{}
		}
		specs[name] = got.spec
	}
	return specs, failed
}

func (p *pass) pullVolume(ctx context.Context, source *v1.ImageVolumeSource) pulled {
	// Not a container's: the events of its pull are the pod's.
	ref, err := p.m.cfg.Images.Ensure(ctx, p.pod, &v1.Container{Image: source.Reference, ImagePullPolicy: source.PullPolicy}, p.sandbox)
	if err != nil {
		return pulled{err: err}
	}
	return pulled{spec: &cri.ImageSpec{Image: ref, UserSpecifiedImage: source.Reference, Annotations: p.pod.Annotations}}
}

// imageSource returns the named volume's source if it is of type image.
func imageSource(pod *v1.Pod, name string) *v1.ImageVolumeSource {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			return v.Image
		}
	}
	return nil
}

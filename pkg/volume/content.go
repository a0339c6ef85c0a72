package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/downward"
)

// Why a volume cannot be made on a node without Objects.
var (
	errNoConfigMaps = errors.New("this node has no source of ConfigMaps")
	errNoSecrets    = errors.New("this node has no source of Secrets")
	errNoBundles    = errors.New("this node has no source of ClusterTrustBundles")
	errNoTokens     = errors.New("this node has nobody who issues service-account tokens")
)

// maxContent is how much the node writes into all volumes of one pod, in bytes. One
// Secret or field can be the content of any number of files, which are not charged to
// the pod's memory, as those of an emptyDir are.
const maxContent = 128 << 20

var errTooMuch = fmt.Errorf("the files of the pod's configMap, secret, downwardAPI and projected volumes are more than %d MiB together", maxContent>>20)

// content makes the files of volumes from what the pod and its objects say.
type content struct {
	pod         *v1.Pod
	objects     Objects
	allocatable func() v1.ResourceList
	mode        os.FileMode // of files without one of their own
	room        *int        // what is left of maxContent for this volume and the next ones; nil: all of it
}

// take takes the room that a file needs.
func (c *content) take(size int) error {
	if c.room == nil {
		all := maxContent
		c.room = &all
	}
	if *c.room -= size; *c.room < 0 {
		return errTooMuch
	}
	return nil
}

func modeOf(m *int32, otherwise os.FileMode) os.FileMode {
	if m == nil {
		return otherwise
	}
	return os.FileMode(*m) & os.ModePerm
}

// configMap returns the files of a ConfigMap, none for an optional one that is missing.
func (c *content) configMap(ctx context.Context, name string, items []v1.KeyToPath, optional bool) (map[string]file, error) {
	if c.objects == nil {
		return nil, errNoConfigMaps
	}
	o, err := c.objects.ConfigMap(ctx, c.pod.Namespace, name)
	if err != nil {
		if optional && apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	data := make(map[string][]byte, len(o.Data)+len(o.BinaryData))
	for k, v := range o.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, o.BinaryData)
	return c.keys(data, items, optional, "configmap references non-existent config key: %s")
}

// secret is configMap for Secrets.
func (c *content) secret(ctx context.Context, name string, items []v1.KeyToPath, optional bool) (map[string]file, error) {
	if c.objects == nil {
		return nil, errNoSecrets
	}
	o, err := c.objects.Secret(ctx, c.pod.Namespace, name)
	if err != nil {
		if optional && apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	return c.keys(o.Data, items, optional, "references non-existent secret key: %s")
}

// keys returns all keys of an object as files, or those of items if there are any.
func (c *content) keys(data map[string][]byte, items []v1.KeyToPath, optional bool, missing string) (map[string]file, error) {
	files := make(map[string]file, len(data))
	if len(items) == 0 {
		for k, v := range data {
			if err := c.take(len(v)); err != nil {
				return nil, err
			}
			files[k] = file{data: v, mode: c.mode, uid: -1}
		}
		return files, nil
	}
	for _, i := range items {
		v, ok := data[i.Key]
		switch {
		case ok:
			if err := c.take(len(v)); err != nil {
				return nil, err
			}
			files[clean(i.Path)] = file{data: v, mode: modeOf(i.Mode, c.mode), uid: -1}
		case !optional:
			return nil, fmt.Errorf(missing, i.Key)
		}
	}
	return files, nil
}

// clean cleans a path as writeFiles wants it, but leaves an invalid path invalid.
func clean(p string) string {
	if p == "" || slices.Contains(strings.Split(p, "/"), "..") {
		return p
	}
	return path.Clean(p)
}

// downward returns the files with what the pod may know about itself.
func (c *content) downward(items []v1.DownwardAPIVolumeFile) (map[string]file, error) {
	files := make(map[string]file, len(items))
	var failed []error
	for _, i := range items {
		var text string
		var err error
		switch {
		case i.FieldRef != nil:
			text, err = downward.Field(c.pod, i.FieldRef.FieldPath, downward.Addresses{})
		case i.ResourceFieldRef != nil:
			text, err = downward.Resource(c.pod, "", i.ResourceFieldRef, c.allocatable())
		}
		if err != nil {
			failed = append(failed, err)
		}
		if err := c.take(len(text)); err != nil {
			return nil, err
		}
		files[clean(i.Path)] = file{data: []byte(text), mode: modeOf(i.Mode, c.mode), uid: -1}
	}
	return files, utilerrors.NewAggregate(failed)
}

// token returns the file of a service-account token.
func (c *content) token(ctx context.Context, p *v1.ServiceAccountTokenProjection) (map[string]file, error) {
	if c.objects == nil {
		return nil, errNoTokens
	}
	var seconds int64
	if p.ExpirationSeconds != nil {
		seconds = *p.ExpirationSeconds
	}
	text, err := c.objects.Token(ctx, c.pod, p.Audience, seconds)
	if err != nil {
		return nil, err
	}
	return c.private(p.Path, []byte(text))
}

// trustBundle returns the file of a cluster's trust anchors.
func (c *content) trustBundle(ctx context.Context, p *v1.ClusterTrustBundleProjection) (map[string]file, error) {
	if c.objects == nil {
		return nil, errNoBundles
	}
	text, err := c.objects.TrustAnchors(ctx, p)
	if err != nil {
		return nil, err
	}
	return c.private(p.Path, text)
}

// private is a file that, where possible, only the pod's user or the volume's group
// may read.
func (c *content) private(path string, data []byte) (map[string]file, error) {
	if err := c.take(len(data)); err != nil {
		return nil, err
	}
	f := file{data: data, mode: c.mode, uid: fsUser(c.pod)}
	if f.uid >= 0 || fsGroup(c.pod) != nil {
		f.mode = 0o600
	}
	return map[string]file{clean(path): f}, nil
}

// projected returns the files of all sources; where two have the same path, the
// later one wins.
func (c *content) projected(ctx context.Context, sources []v1.VolumeProjection) (map[string]file, error) {
	all := map[string]file{}
	var failed []error
	for i := range sources {
		var files map[string]file
		var err error
		switch s := &sources[i]; {
		case s.ConfigMap != nil:
			files, err = c.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, ptr.Deref(s.ConfigMap.Optional, false))
		case s.Secret != nil:
			files, err = c.secret(ctx, s.Secret.Name, s.Secret.Items, ptr.Deref(s.Secret.Optional, false))
		case s.DownwardAPI != nil:
			files, err = c.downward(s.DownwardAPI.Items)
		case s.ServiceAccountToken != nil:
			files, err = c.token(ctx, s.ServiceAccountToken)
		case s.ClusterTrustBundle != nil:
			files, err = c.trustBundle(ctx, s.ClusterTrustBundle)
		case s.PodCertificate != nil:
			err = errors.New("projections of type podCertificate are not supported by this node")
		}
		if errors.Is(err, errTooMuch) {
			return nil, err
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		maps.Copy(all, files)
	}
	return all, utilerrors.NewAggregate(failed)
}

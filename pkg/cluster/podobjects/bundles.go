package podobjects

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	certsv1alpha1 "k8s.io/api/certificates/v1alpha1"
	certsv1beta1 "k8s.io/api/certificates/v1beta1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// errNoBundles is why no pod can have a bundle.
var errNoBundles = errors.New("the API server has no ClusterTrustBundles: it serves neither certificates.k8s.io/v1beta1 nor v1alpha1 of them")

// TrustBundles gives the ClusterTrustBundles of the cluster. Few clusters serve
// them and few pods need them: the first pod that does makes it find out which
// version is served and watch all bundles, as with the kubelet. Safe for concurrent
// use.
type TrustBundles struct {
	client kubernetes.Interface
	asking chan struct{} // held by whoever finds out the version

	mu      sync.Mutex
	running context.Context // of Run; nil before and after
	known   *informed       // nil until it is known what to watch
	watches sync.WaitGroup
}

// NewTrustBundles returns the TrustBundles that client sees.
func NewTrustBundles(client kubernetes.Interface) (*TrustBundles, error) {
	if client == nil {
		return nil, errors.New("trust bundles: no client")
	}
	return &TrustBundles{client: client, asking: make(chan struct{}, 1)}, nil
}

// Run permits a watch until ctx ends, and returns when the watch has stopped. What
// was known stays known. It is called once.
func (b *TrustBundles) Run(ctx context.Context) error {
	b.mu.Lock()
	b.running = ctx
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.running = nil
	b.mu.Unlock()
	b.watches.Wait()
	return nil
}

// TrustAnchors returns the certificates of the bundles that p selects, by name or
// by signer and labels: PEM, each once, in an order that depends only on them. If p
// is optional and selects nothing, the result is empty. Except for the first time,
// it answers from memory.
func (b *TrustBundles) TrustAnchors(ctx context.Context, p *v1.ClusterTrustBundleProjection) ([]byte, error) {
	known, err := b.watched(ctx)
	if err != nil {
		return nil, err
	}
	if err := known.Wait(ctx); err != nil {
		return nil, err
	}
	optional := p.Optional != nil && *p.Optional
	var texts []string
	switch {
	case p.Name != nil:
		o, ok, err := known.informer.GetIndexer().GetByKey(*p.Name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", err)
		case ok:
			texts = append(texts, bundleOf(o).text)
		case !optional:
			return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", apierrors.NewNotFound(certsv1beta1.Resource("clustertrustbundle"), *p.Name))
		}
	case p.SignerName != nil:
		// An empty selector selects all labels, a missing one none.
		selector, err := metav1.LabelSelectorAsSelector(p.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("while parsing label selector: %w", err)
		}
		for _, o := range known.informer.GetIndexer().List() {
			if one := bundleOf(o); one.signer == *p.SignerName && selector.Matches(one.labels) {
				texts = append(texts, one.text)
			}
		}
		if len(texts) == 0 && !optional {
			return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
		}
	default:
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	return anchors(texts), nil
}

// anchors returns the certificates in PEM texts, without anything between and
// around them.
func anchors(texts []string) []byte {
	var all []string
	for _, text := range texts {
		for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
			all = append(all, string(block.Bytes))
		}
	}
	slices.Sort(all)
	out := []byte{}
	for _, der := range slices.Compact(all) {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return out
}

// bundle is a ClusterTrustBundle of either version.
type bundle struct {
	signer, text string
	labels       labels.Set
}

func bundleOf(o any) bundle {
	switch o := o.(type) {
	case *certsv1beta1.ClusterTrustBundle:
		return bundle{o.Spec.SignerName, o.Spec.TrustBundle, o.Labels}
	case *certsv1alpha1.ClusterTrustBundle:
		return bundle{o.Spec.SignerName, o.Spec.TrustBundle, o.Labels}
	}
	return bundle{}
}

// version is a version of the bundles that an API server may serve.
type version struct {
	example runtime.Object
	list    func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// versions returns the versions, newest first.
func (b *TrustBundles) versions() []version {
	beta, alpha := b.client.CertificatesV1beta1().ClusterTrustBundles(), b.client.CertificatesV1alpha1().ClusterTrustBundles()
	return []version{
		{
			&certsv1beta1.ClusterTrustBundle{},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return beta.List(ctx, o) },
			beta.Watch,
		},
		{
			&certsv1alpha1.ClusterTrustBundle{},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return alpha.List(ctx, o) },
			alpha.Watch,
		},
	}
}

// watched returns the watch of all bundles, which the first caller starts.
func (b *TrustBundles) watched(ctx context.Context) (*informed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimTimeout, fmt.Errorf("no answer within %v", claimTimeout))
	defer cancel()
	select {
	case b.asking <- struct{}{}:
		defer func() { <-b.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask the API server for ClusterTrustBundles: %w", context.Cause(ctx))
	}
	b.mu.Lock()
	known := b.known
	b.mu.Unlock()
	if known != nil {
		return known, nil
	}
	for _, v := range b.versions() {
		_, err := v.list(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) {
			continue // no such version: an empty list is no error
		}
		if err != nil {
			return nil, fmt.Errorf("ask the API server for ClusterTrustBundles: %w", err)
		}
		return b.begin(v)
	}
	return nil, errNoBundles
}

// begin starts the watch. Run waits for its end.
func (b *TrustBundles) begin(v version) (*informed, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == nil {
		return nil, errors.New("ClusterTrustBundles are not watched: the agent is starting or ending")
	}
	klog.V(2).InfoS("Watching ClusterTrustBundles, because a pod needs one", "version", fmt.Sprintf("%T", v.example))
	lw := &cache.ListWatch{ListWithContextFunc: v.list, WatchFuncWithContext: v.watch}
	known := &informed{
		informer: cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, b.client), v.example, 0, nil),
		unread:   errors.New("ClusterTrustBundle informer has not yet synced"),
	}
	ctx := b.running
	b.watches.Go(func() { known.informer.RunWithContext(ctx) })
	b.known = known
	return known, nil
}

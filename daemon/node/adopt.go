// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/adopt"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// adoptingAtATime bounds how many pods are attached together: enough to keep
// the processors busy, not so many that ADD calls wait long.
const adoptingAtATime = 8

// AdoptConfig is about pods that are older than the daemon.
type AdoptConfig struct {
	// Existing: at each start, nsqueued adopts pods that are older than itself.
	Existing bool `json:"existing"`
	// ExcludeNamespaces are Kubernetes namespaces whose pods are not adopted, in
	// addition to those of the CNI configuration that a pod was made with.
	ExcludeNamespaces []string `json:"excludeNamespaces"`
	// NetnsDirs are the directories where runtimes mount netns.
	NetnsDirs []string `json:"netnsDirs"`
	// CacheDir is the directory of libcni's result cache.
	CacheDir string `json:"cacheDir"`
}

// defaultAdopt looks where containerd, CRI-O and Docker keep their netns.
func defaultAdopt() AdoptConfig {
	return AdoptConfig{
		ExcludeNamespaces: []string{},
		NetnsDirs:         []string{"/run/netns", "/var/run/netns", "/run/docker/netns"},
		CacheDir:          "/var/lib/cni/results",
	}
}

func (c *AdoptConfig) validate() error {
	errs := []error{absolute("adopt.cacheDir", c.CacheDir)}
	for _, dir := range c.NetnsDirs {
		errs = append(errs, absolute("adopt.netnsDirs", dir))
	}
	return errors.Join(errs...)
}

// attacher is what adopting needs of the registry.
type attacher interface {
	AttachCalled(ctx context.Context, req api.AttachRequest, netns *os.File,
		called time.Duration) (api.Attachment, error)
	Detach(ctx context.Context, key api.Key) error
	List(ctx context.Context) ([]api.Attachment, error)
}

// adopter attaches what a scan finds, one scan at a time. It is told of calls
// that come meanwhile: what was deleted between the scan and its own attaching
// must not come back.
type adopter struct {
	registry attacher
	options  adopt.Options
	log      *slog.Logger
	turn     chan struct{} // has one element while a scan is on
	// called is when the scan began, since boot: what is deleted by a call that
	// began later is gone, whenever the call arrives.
	called time.Duration

	mu sync.Mutex
	// deleted has the keys that were detached since the scan began, and false
	// for those attached after that; nil while there is no scan.
	deleted map[api.Key]bool
	// all: so were those that it does not have.
	all bool
}

func newAdopter(c *Config, r attacher, log *slog.Logger) *adopter {
	return &adopter{
		registry: r, log: log, turn: make(chan struct{}, 1),
		options: adopt.Options{
			NetnsDirs: c.Adopt.NetnsDirs, CacheDir: c.Adopt.CacheDir,
			ExcludeNamespaces: c.Adopt.ExcludeNamespaces, FailurePolicy: c.FailurePolicy,
		},
	}
}

// Adopt scans and attaches. See [api.Backend].
func (a *adopter) Adopt(ctx context.Context, req api.AdoptRequest) (api.AdoptResults, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return api.AdoptResults{}, api.Errorf(api.CodeTryAgainLater,
			"another scan is still in progress")
	}
	began := time.Now()
	a.called = boottime.Now()
	a.watchDeletions(true)
	defer a.watchDeletions(false)
	attached, err := a.registry.List(ctx)
	if err != nil {
		return api.AdoptResults{}, err
	}
	found, err := adopt.Scan(a.options, attached)
	if err != nil {
		return api.AdoptResults{}, err
	}
	results := api.AdoptResults{Results: found.Others, Missing: found.Missing}
	if req.DryRun {
		for i := range found.Candidates {
			would := describe(&found.Candidates[i], api.WouldAdopt)
			results.Results = append(results.Results, would)
		}
	} else {
		results.Results = append(results.Results, a.attachAll(ctx, found.Candidates)...)
		a.report(&results, time.Since(began))
	}
	slices.SortStableFunc(results.Results, func(x, y api.AdoptResult) int {
		return cmp.Or(cmp.Compare(x.ContainerID, y.ContainerID), cmp.Compare(x.Ifname, y.Ifname),
			cmp.Compare(x.Netns.Path, y.Netns.Path))
	})
	return results, nil
}

// attachAll attaches the candidates; one that fails does not keep the others
// from it.
func (a *adopter) attachAll(ctx context.Context, candidates []adopt.Candidate) []api.AdoptResult {
	results := make([]api.AdoptResult, len(candidates))
	free := make(chan struct{}, adoptingAtATime)
	var workers sync.WaitGroup
	for i := range candidates {
		free <- struct{}{}
		workers.Go(func() {
			defer func() { <-free }()
			results[i] = a.attach(ctx, &candidates[i])
		})
	}
	workers.Wait()
	return results
}

// attach verifies and attaches one candidate.
func (a *adopter) attach(ctx context.Context, c *adopt.Candidate) api.AdoptResult {
	result := describe(c, api.AdoptFailed)
	if ctx.Err() != nil {
		result.Reason = "the call ended before its turn"
		return result
	}
	f, err := c.Open()
	if err != nil {
		result.Outcome, result.Reason = api.AdoptSkipped, err.Error()
		return result
	}
	defer f.Close()
	result.Outcome, err = a.take(ctx, c.Request, f)
	if err != nil {
		result.Reason = err.Error()
	}
	return result
}

// errDeleted is why a candidate is let go of again.
var errDeleted = errors.New("the pod was deleted in the meantime")

// take attaches what was verified. An error gives the outcome's reason.
func (a *adopter) take(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.AdoptOutcome, error) {
	attachment, err := a.registry.AttachCalled(ctx, req, netns, a.called)
	switch {
	case api.CodeOf(err) == api.CodeConflict:
		return api.AlreadyAttached, err
	case err != nil:
		return api.AdoptFailed, err
	case attachment.Origin != api.OriginAdopted: // another call was faster
		return api.AlreadyAttached, nil
	}
	undone, err := a.undoIfDeleted(ctx, req.Key)
	switch {
	case err != nil:
		return api.AdoptFailed, err
	case undone:
		return api.AdoptSkipped, errDeleted
	}
	return api.Adopted, nil
}

// describe returns a candidate as a result.
func describe(c *adopt.Candidate, outcome api.AdoptOutcome) api.AdoptResult {
	return api.AdoptResult{
		Key: c.Request.Key, Network: c.Request.Network, Pod: c.Request.Pod,
		Netns: c.Netns, Outcome: outcome,
	}
}

// watchDeletions begins or ends remembering what is detached.
func (a *adopter) watchDeletions(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deleted, a.all = nil, false
	if on {
		a.deleted = make(map[api.Key]bool)
	}
}

// detaching is called before an attachment is detached by request.
func (a *adopter) detaching(key api.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deleted != nil {
		a.deleted[key] = true
	}
}

// detachingAll is called before everything is detached by request.
func (a *adopter) detachingAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.deleted)
	a.all = a.deleted != nil
}

// attaching is called before an attachment is made by request, which may come
// after a deletion of the same key.
func (a *adopter) attaching(key api.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deleted != nil {
		a.deleted[key] = false
	}
}

// undoIfDeleted detaches again what was detached since the scan began. It keeps
// the lock, so that a request to attach comes before all of it or after.
func (a *adopter) undoIfDeleted(ctx context.Context, key api.Key) (undone bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	deleted, said := a.deleted[key]
	if !said {
		deleted = a.all
	}
	if !deleted {
		return false, nil
	}
	return true, a.registry.Detach(context.WithoutCancel(ctx), key)
}

// report logs what was adopted.
func (a *adopter) report(results *api.AdoptResults, took time.Duration) {
	for i := range results.Results {
		r := &results.Results[i]
		log := a.log.With(slog.String("containerID", r.ContainerID),
			slog.String("ifname", r.Ifname), slog.String("pod", r.Pod.String()),
			slog.String("path", r.Netns.Path))
		switch r.Outcome {
		case api.Adopted:
			log.Info("pod adopted", slog.String("network", r.Network))
		case api.AdoptFailed:
			log.Error("pod not adopted", slog.String("error", r.Reason))
		case api.AdoptSkipped, api.UnknownNetns:
			log.Debug("pod not adopted", slog.String("reason", r.Reason))
		}
	}
	for _, what := range results.Missing {
		a.log.Warn("some existing pods may have been missed and stay uninspected",
			slog.String("missing", what))
	}
	a.log.Info("looked for existing pods",
		slog.Int("adopted", results.Count(api.Adopted)),
		slog.Int("alreadyAttached", results.Count(api.AlreadyAttached)),
		slog.Int("skipped", results.Count(api.AdoptSkipped)),
		slog.Int("failed", results.Count(api.AdoptFailed)),
		slog.Int("unknown", results.Count(api.UnknownNetns)),
		slog.Duration("took", took))
}

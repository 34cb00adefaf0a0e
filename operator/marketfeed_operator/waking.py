"""When a shard's pod is to be woken, so that its kubelet mounts the shard's changed streams at once.

What does not live here: patching the pod (reconcile), and which streams a shard holds (handover).

A kubelet looks at the ConfigMaps of a running pod when it syncs the pod: every 60 to 90 s (its `syncFrequency` of
1 min, times 1 to 1.5: `completeWork` in pkg/kubelet/pod_workers.go), and at once when an annotation of the pod changes
(`podsDifferSemantically` in config/config.go; the sync then has the volumes mounted again: `WaitForAttachAndMount` in
volumemanager/volume_manager.go, `processPodVolumes` in volumemanager/populator). Measured from the API server's answer
to the update until the file in the pod is another one, with kubelet 1.35.4, containerd 1.6.20, one node, 16 pods:

- The update alone: 0.7 to 82 s, median 38 s (64 updates).
- The annotation patched after the update's answer: median 0.14 s, at most 1.2 s on a busy machine (224).
- The annotation first: 1 of 16 missed with the update right after it, 11 of 16 with the update 0.1 s later, all of 48
  with 0.25 s and more. The kubelet mounts the old content again and does not look before its next round: 60 to 90 s.
  So the annotation follows the answer to the update and never precedes it.
- A kubelet that keeps ConfigMaps for a while (`configMapAndSecretChangeDetectionStrategy: Cache`, where the default is
  Watch) hears as well while it keeps them for 0 s, as it does up to 100 nodes (64 of 64 within 1 s). Above, it keeps
  them for 15 s and longer (pkg/controller/ttl; here the node's annotation was set by hand): a second change 5 s after
  the first one waited for the next round in 16 of 16, although the pod was woken. A second call, 20 s after the first,
  brought it in within 0.6 s in 16 of 16.

Hence a pod that says it still works by its old streams is called again.
"""

from __future__ import annotations

from marketfeed_operator.handover import streams_of
from marketfeed_operator.objects import STREAMS, Manifest, annotations_of, digest
from marketfeed_operator.observed import Sample

AGAIN_S = 20.0
"""How long a pod that was woken is given to work by its streams before it is woken again."""

_MOUNTED_S = 5.0  # longer than a kubelet that heard, and an ingestor that reads its file, take together


def call(pod: Manifest, config_map: Manifest, sample: Sample | None, now: float) -> str | None:
    """Return what the pod's annotation must become to wake its kubelet; None when there is no need.

    config_map: the shard's, as the API server has answered; sample: what the pod said last; now: s since the epoch.
    """
    content = digest(config_map.get("data") or {})
    called, at = _called(pod)
    missed = sample is not None and sample.at >= at + _MOUNTED_S and not _works_by(config_map, sample)
    if called == content and not (missed and now >= at + AGAIN_S):
        return None
    return f"{content}@{now:.0f}"


def is_awake(pod: Manifest, config_map: Manifest, sample: Sample | None) -> bool:
    """Tell whether no other call is due later: the pod works by its streams, or does not say by which."""
    return _called(pod)[0] == digest(config_map.get("data") or {}) and _works_by(config_map, sample)


def _called(pod: Manifest) -> tuple[str, float]:
    """Return the content that the pod was woken for last, and when; s since the epoch."""
    content, _, at = annotations_of(pod).get(STREAMS, "").partition("@")
    return content, float(at) if at.isdecimal() else 0.0


def _works_by(config_map: Manifest, sample: Sample | None) -> bool:
    return sample is None or sample.desired is None or sample.desired == streams_of(config_map)

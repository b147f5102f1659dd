// ICO Trainer keeps settings that stand on nodes of their own as hidden widgets, so that older graphs load and mean the same.
// What such a graph has set, or has linked, is shown: nothing acts unseen.
import { app } from "../../scripts/app.js";

const TRAINER = "ICOTrainer";

function fresh(node, name) {
  const { required = {}, optional = {} } = node.constructor.nodeData?.input ?? {};
  const [kind, options] = { ...required, ...optional }[name] ?? [];
  return options?.default ?? (Array.isArray(kind) ? kind[0] : undefined);
}

function isLinked(node, widget) {
  return node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null) ?? false;
}

app.registerExtension({
  name: "DCI.Unseen",
  loadedGraphNode(node) {
    if (node.comfyClass !== TRAINER) return;
    const set = (node.widgets ?? []).filter(
      (widget) => widget.options?.hidden && (isLinked(node, widget) || widget.value !== fresh(node, widget.name)),
    );
    for (const widget of set) {
      widget.hidden = false;
      widget.options.hidden = false;
    }
    if (set.length) node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  },
});

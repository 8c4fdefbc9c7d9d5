//! A layered layout of a directed graph: callers left, called right, few crossings.
//!
//! You are here: `reports::svg::layout`, in the manner of Sugiyama: circles are cut by a depth-first search, layers are longest
//! paths, long edges pass their layers through bends, and crossings are thinned by barycentres. O(sweeps x edges x log edges).
//! Source: K. Sugiyama, S. Tagawa, M. Toda, IEEE Trans. SMC 11 (1981), 109-125.

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{DfsEvent, depth_first_search};

/// Where everything goes, in units of layers (x) and pixels (y).
pub(crate) struct Layout {
    /// Layer of each node.
    pub layer: Vec<usize>,
    /// Middle of each node, pixels from the top.
    pub y: Vec<i32>,
    /// For each edge its bends between caller and called: (layer, y), in the direction of the call.
    pub bends: Vec<Vec<(usize, i32)>>,
    /// Layers in all.
    pub layers: usize,
    /// Height in all.
    pub height: i32,
}

/// Height of a node's place and of a bend's.
const NODE: i32 = 84;
const BEND: i32 = 30;

/// Lays out `nodes` nodes and `edges` (from, to); the search for circles begins at the first nodes, so entries come first.
pub(crate) fn layered(nodes: usize, edges: &[(usize, usize)]) -> Layout {
    let forward = acyclic(nodes, edges);
    let layer = layers(nodes, &forward);
    let count = layer.iter().max().map_or(1, |deepest| deepest + 1);
    // Items: the nodes first, then the bends of each edge in turn.
    let (mut item_layer, mut is_bend) = (layer.clone(), vec![false; nodes]);
    let (mut links, mut chains) = (Vec::new(), Vec::new());
    for &(from, to) in &forward {
        let mut chain = Vec::new();
        let mut last = from;
        for l in layer[from] + 1..layer[to] {
            item_layer.push(l);
            is_bend.push(true);
            let bend = item_layer.len() - 1;
            links.push((last, bend));
            chain.push(bend);
            last = bend;
        }
        if from != to {
            links.push((last, to));
        }
        chains.push(chain);
    }
    let order = order(count, &item_layer, &links);
    let (y, height) = place(&order, &is_bend, &links);
    let bends = edges.iter().zip(&forward).zip(chains).map(|((edge, kept), mut chain)| {
        if edge != kept {
            chain.reverse();
        }
        chain.into_iter().map(|item| (item_layer[item], y[item])).collect()
    });
    Layout { bends: bends.collect(), y: y[..nodes].to_vec(), layer, layers: count, height }
}

/// The edges with those that close a circle turned round.
fn acyclic(nodes: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let graph: DiGraph<(), ()> = with_nodes(nodes, edges);
    let mut back = std::collections::BTreeSet::new();
    depth_first_search(&graph, graph.node_indices(), |event| {
        if let DfsEvent::BackEdge(from, to) = event {
            back.insert((from.index(), to.index()));
        }
    });
    edges.iter().map(|&(from, to)| if back.contains(&(from, to)) { (to, from) } else { (from, to) }).collect()
}

fn with_nodes(nodes: usize, edges: &[(usize, usize)]) -> DiGraph<(), ()> {
    let mut graph = DiGraph::new();
    (0..nodes).for_each(|_| {
        graph.add_node(());
    });
    // petgraph walks a node's edges from the last added to the first; the search shall meet them as they are given.
    for &(from, to) in edges.iter().rev() {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
    }
    graph
}

/// Longest path from a node that nobody calls.
fn layers(nodes: usize, forward: &[(usize, usize)]) -> Vec<usize> {
    let proper: Vec<(usize, usize)> = forward.iter().copied().filter(|(from, to)| from != to).collect();
    let graph = with_nodes(nodes, &proper);
    let sorted = toposort(&graph, None).expect("edges that close a circle were turned round");
    let mut layer = vec![0; nodes];
    for node in sorted {
        for next in graph.neighbors(node) {
            layer[next.index()] = layer[next.index()].max(layer[node.index()] + 1);
        }
    }
    layer
}

/// The items of each layer from top to bottom, after sweeps by barycentre.
fn order(layers: usize, item_layer: &[usize], links: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); layers];
    item_layer.iter().enumerate().for_each(|(item, l)| order[*l].push(item));
    let mut best = (crossings(&order, item_layer, links), order.clone());
    for sweep in 0..16 {
        let down = sweep % 2 == 0;
        let mut rank = vec![0.0; item_layer.len()];
        order.iter().for_each(|layer| layer.iter().enumerate().for_each(|(i, item)| rank[*item] = i as f64));
        for step in 0..layers {
            let l = if down { step } else { layers - 1 - step };
            let centre = |item: usize| {
                let near: Vec<f64> = links
                    .iter()
                    .filter_map(|&(a, b)| if down { (b == item).then_some(a) } else { (a == item).then_some(b) })
                    .map(|other| rank[other])
                    .collect();
                if near.is_empty() { rank[item] } else { near.iter().sum::<f64>() / near.len() as f64 }
            };
            let mut keyed: Vec<(f64, usize)> = order[l].iter().map(|item| (centre(*item), *item)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            order[l] = keyed.into_iter().map(|(_, item)| item).collect();
            order[l].iter().enumerate().for_each(|(i, item)| rank[*item] = i as f64);
        }
        let now = crossings(&order, item_layer, links);
        if now < best.0 {
            best = (now, order.clone());
        }
    }
    best.1
}

/// Pairs of links between the same two layers that cross.
fn crossings(order: &[Vec<usize>], item_layer: &[usize], links: &[(usize, usize)]) -> usize {
    let mut rank = vec![0; item_layer.len()];
    order.iter().for_each(|layer| layer.iter().enumerate().for_each(|(i, item)| rank[*item] = i));
    let mut count = 0;
    for (i, &(a, b)) in links.iter().enumerate() {
        for &(c, d) in &links[i + 1..] {
            let same = item_layer[a] == item_layer[c];
            count += usize::from(same && ((rank[a] < rank[c] && rank[b] > rank[d]) || (rank[a] > rank[c] && rank[b] < rank[d])));
        }
    }
    count
}

/// Heights: every layer in its order, each item drawn towards the middle of its neighbours as far as its room allows.
fn place(order: &[Vec<usize>], is_bend: &[bool], links: &[(usize, usize)]) -> (Vec<i32>, i32) {
    let room = |item: usize| f64::from(if is_bend[item] { BEND } else { NODE });
    let mut y = vec![0.0; is_bend.len()];
    for layer in order {
        let mut top = -layer.iter().map(|item| room(*item)).sum::<f64>() / 2.0;
        for item in layer {
            y[*item] = top + room(*item) / 2.0;
            top += room(*item);
        }
    }
    for round in 0..12 {
        let down = round % 2 == 0;
        for step in 0..order.len() {
            let layer = &order[if down { step } else { order.len() - 1 - step }];
            let wish = |item: usize| {
                let near: Vec<f64> =
                    links.iter().filter_map(|&(a, b)| if a == item { Some(y[b]) } else { (b == item).then_some(y[a]) }).collect();
                if near.is_empty() { y[item] } else { near.iter().sum::<f64>() / near.len() as f64 }
            };
            let wishes: Vec<f64> = layer.iter().map(|item| wish(*item)).collect();
            let rooms: Vec<f64> = layer.iter().map(|item| room(*item)).collect();
            layer.iter().zip(settle(&wishes, &rooms)).for_each(|(item, place)| y[*item] = place);
        }
    }
    let low = (0..y.len()).map(|i| y[i] - room(i) / 2.0).fold(f64::INFINITY, f64::min);
    let high = (0..y.len()).map(|i| y[i] + room(i) / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let height = if y.is_empty() { NODE } else { (high - low).round() as i32 };
    (y.iter().map(|v| (v - low).round() as i32).collect(), height)
}

/// Places as near to the wishes as order and room allow: neighbours that would overlap form a block at the mean of their wishes.
fn settle(wishes: &[f64], rooms: &[f64]) -> Vec<f64> {
    // Each block: first item, items, sum of (wish - offset), and its extent.
    struct Block {
        items: usize,
        sum: f64,
        extent: f64,
    }
    let start = |b: &Block| b.sum / b.items as f64;
    let mut blocks: Vec<Block> = Vec::new();
    for (wish, room) in wishes.iter().zip(rooms) {
        blocks.push(Block { items: 1, sum: wish - room / 2.0, extent: *room });
        while blocks.len() > 1
            && start(&blocks[blocks.len() - 2]) + blocks[blocks.len() - 2].extent > start(&blocks[blocks.len() - 1])
        {
            let (last, into) = (blocks.pop().expect("two are there"), blocks.last_mut().expect("one is left"));
            into.sum += last.sum - last.items as f64 * into.extent;
            into.items += last.items;
            into.extent += last.extent;
        }
    }
    let (mut places, mut i) = (Vec::new(), 0);
    for block in &blocks {
        let mut top = start(block);
        for _ in 0..block.items {
            places.push(top + rooms[i] / 2.0);
            top += rooms[i];
            i += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_stand_left_of_the_called_even_in_circles() {
        // 0 → 1 → 2 → 3, 0 → 3 (long), 3 → 1 (back), 2 → 2 (itself).
        let layout = layered(4, &[(0, 1), (1, 2), (2, 3), (0, 3), (3, 1), (2, 2)]);
        assert_eq!(layout.layer, [0, 1, 2, 3]);
        assert_eq!(layout.bends[3].iter().map(|b| b.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(layout.bends[4].iter().map(|b| b.0).collect::<Vec<_>>(), [2]);
        assert!(layout.bends[5].is_empty());
    }

    #[test]
    fn nodes_of_a_layer_do_not_overlap() {
        let edges: Vec<(usize, usize)> = (1..8).map(|to| (0, to)).collect();
        let layout = layered(8, &edges);
        let mut ys = layout.y[1..].to_vec();
        ys.sort_unstable();
        assert!(ys.windows(2).all(|pair| pair[1] - pair[0] >= NODE - 1), "{ys:?}");
        assert!(layout.height >= 7 * NODE);
    }

    #[test]
    fn a_crossing_that_order_can_avoid_is_avoided() {
        // 0 and 1 call 5 and 4, 3 and 2: as numbered all lines cross.
        let layout = layered(6, &[(0, 5), (0, 4), (1, 3), (1, 2)]);
        let above = |a: usize, b: usize| layout.y[a] < layout.y[b];
        assert_eq!(above(0, 1), above(5, 3));
        assert_eq!(above(0, 1), above(4, 2));
    }

    #[test]
    fn an_empty_graph_is_laid_out() {
        assert_eq!(layered(0, &[]).layers, 1);
    }
}

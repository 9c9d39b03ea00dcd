/**
 * How a kernel that walks along channels reads tensors in parts (`Operand.parts`), such as the concatenation of a feature map and a skip
 * connection: with a dispatch for each span of channels in which every tensor is one buffer. No thread has to ask where a channel lies.
 */
import type { Operand } from '../core/op.ts';

/** Channels `first` to `end` of all tensors. */
export interface ChannelSpan {
  first: number;
  end: number;
  /** Where they lie, for each tensor. */
  sources: ChannelSource[];
}

export interface ChannelSource {
  /** The buffer, in the shape of what is read of it. */
  operand: Operand;
  /** Channels of a pixel in the buffer, and the first of the span among them. */
  stride: number;
  start: number;
}

/** The spans of tensors (..., C) of one shape, whole or in parts. */
export function channelSpans(tensors: Operand[]): ChannelSpan[] {
  const all = tensors.map(placesOf);
  const ends = [...new Set(all.flatMap((places) => places.map(({ end }) => end)))].sort((a, b) => a - b);
  return ends.map((end, i) => {
    const first = ends[i - 1] ?? 0;
    const sources = all.map((places) => {
      const place = places.find((each) => each.end >= end)!;
      return { operand: touched(place.operand, end - first), stride: place.end - place.first, start: first - place.first };
    });
    return { first, end, sources };
  });
}

/** What a dispatch touches of an operand that it binds whole: so many channels of every pixel. */
export function touched(operand: Operand, channels: number): Operand {
  return { ...operand, shape: operand.shape.with(-1, channels) };
}

/** 4 where all are multiples of it, so that loads of four stay within each, else 1. */
export function loadsWithin(...channels: number[]): 1 | 4 {
  return channels.every((number) => number % 4 === 0) ? 4 : 1;
}

function placesOf(tensor: Operand): { operand: Operand; first: number; end: number }[] {
  let end = 0;
  return (tensor.parts ?? [tensor]).map((operand) => {
    const first = end;
    end += operand.shape[operand.shape.length - 1];
    return { operand, first, end };
  });
}

/* A Vulkan layer for `bench gpu`: lets Dawn compile for a GPU that is not there, and writes down what the driver's compiler says.
 *
 * RADV compiles for any AMD GPU named by RADV_FORCE_FAMILY, but without one it has no command buffers or queues. This layer answers those
 * calls itself, so that Dawn gets its device; nothing is ever executed. It asks for VK_KHR_pipeline_executable_properties and appends to the
 * file named by GPU_BENCH_REPORT, for each compute pipeline:
 *     pipeline <lanes of a subgroup>
 *     number <value> <name>          one line for each of the compiler's statistics
 *     text <bytes> <name>            each listing, its bytes following
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>

static struct {
  VkInstance instance;
  PFN_vkGetInstanceProcAddr of_instance;
  PFN_vkGetDeviceProcAddr of_device;
  PFN_vkCreateComputePipelines compile;
  PFN_vkGetPipelineExecutablePropertiesKHR executables;
  PFN_vkGetPipelineExecutableStatisticsKHR statistics;
  PFN_vkGetPipelineExecutableInternalRepresentationsKHR listings;
} next;

static void *zeros(uint32_t count, size_t size) { return calloc(count ? count : 1, size); }

static double number(const VkPipelineExecutableStatisticKHR *s) {
  switch (s->format) {
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: return s->value.b32;
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: return (double)s->value.i64;
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: return (double)s->value.u64;
  default: return s->value.f64;
  }
}

static void report_numbers(FILE *to, VkDevice device, const VkPipelineExecutableInfoKHR *of) {
  uint32_t count = 0;
  next.statistics(device, of, &count, NULL);
  VkPipelineExecutableStatisticKHR *all = zeros(count, sizeof *all);
  for (uint32_t i = 0; i < count; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
  next.statistics(device, of, &count, all);
  for (uint32_t i = 0; i < count; i++) fprintf(to, "number %.17g %s\n", number(&all[i]), all[i].name);
  free(all);
}

static void report_texts(FILE *to, VkDevice device, const VkPipelineExecutableInfoKHR *of) {
  uint32_t count = 0;
  next.listings(device, of, &count, NULL);
  VkPipelineExecutableInternalRepresentationKHR *all = zeros(count, sizeof *all);
  for (uint32_t i = 0; i < count; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR;
  next.listings(device, of, &count, all); /* the sizes */
  for (uint32_t i = 0; i < count; i++) all[i].pData = zeros((uint32_t)all[i].dataSize, 1);
  next.listings(device, of, &count, all); /* the texts */
  for (uint32_t i = 0; i < count; i++) {
    if (all[i].isText) {
      size_t bytes = strnlen(all[i].pData, all[i].dataSize);
      fprintf(to, "text %zu %s\n", bytes, all[i].name);
      fwrite(all[i].pData, 1, bytes, to);
      fputc('\n', to);
    }
    free(all[i].pData);
  }
  free(all);
}

static void report(VkDevice device, VkPipeline pipeline) {
  const char *path = getenv("GPU_BENCH_REPORT");
  FILE *to = path ? fopen(path, "a") : NULL;
  if (!to) return;
  VkPipelineInfoKHR info = {VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, NULL, pipeline};
  uint32_t count = 0;
  next.executables(device, &info, &count, NULL);
  VkPipelineExecutablePropertiesKHR *all = zeros(count, sizeof *all);
  for (uint32_t i = 0; i < count; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR;
  next.executables(device, &info, &count, all);
  for (uint32_t i = 0; i < count; i++) {
    VkPipelineExecutableInfoKHR of = {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, NULL, pipeline, i};
    fprintf(to, "pipeline %u\n", all[i].subgroupSize);
    report_numbers(to, device, &of);
    report_texts(to, device, &of);
  }
  free(all);
  fclose(to);
}

static VKAPI_ATTR VkResult VKAPI_CALL compile(VkDevice device, VkPipelineCache cache, uint32_t count, const VkComputePipelineCreateInfo *infos,
                                              const VkAllocationCallbacks *allocator, VkPipeline *pipelines) {
  VkComputePipelineCreateInfo *asked = zeros(count, sizeof *asked);
  for (uint32_t i = 0; i < count; i++) {
    asked[i] = infos[i];
    asked[i].flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
  }
  VkResult result = next.compile(device, cache, count, asked, allocator, pipelines);
  free(asked);
  for (uint32_t i = 0; result == VK_SUCCESS && i < count; i++) report(device, pipelines[i]);
  return result;
}

static VkResult yes(void) { return VK_SUCCESS; }
static VkResult far(VkDevice device, VkSemaphore semaphore, uint64_t *value) {
  (void)device, (void)semaphore;
  *value = UINT64_MAX / 2;
  return VK_SUCCESS;
}

static PFN_vkVoidFunction of_device(VkDevice device, const char *name);

/* What the layer answers in the driver's place. */
static PFN_vkVoidFunction ours(const char *name) {
  static const char *const nothing_to_do[] = {
      "vkBeginCommandBuffer", "vkEndCommandBuffer", "vkResetCommandBuffer", "vkResetCommandPool", "vkQueueSubmit",     "vkQueueSubmit2",
      "vkQueueSubmit2KHR",    "vkQueueWaitIdle",    "vkQueueBindSparse",    "vkDeviceWaitIdle",   "vkWaitForFences",   "vkResetFences",
      "vkGetFenceStatus",     "vkWaitSemaphores",   "vkWaitSemaphoresKHR",  "vkSignalSemaphore",  "vkSignalSemaphoreKHR"};
  for (size_t i = 0; i < sizeof nothing_to_do / sizeof *nothing_to_do; i++)
    if (!strcmp(name, nothing_to_do[i])) return (PFN_vkVoidFunction)yes;
  if (!strncmp(name, "vkCmd", 5)) return (PFN_vkVoidFunction)yes;
  if (!strncmp(name, "vkGetSemaphoreCounterValue", 26)) return (PFN_vkVoidFunction)far;
  if (!strcmp(name, "vkCreateComputePipelines")) return (PFN_vkVoidFunction)compile;
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)of_device;
  return NULL;
}

static PFN_vkVoidFunction of_device(VkDevice device, const char *name) {
  PFN_vkVoidFunction theirs = next.of_device ? next.of_device(device, name) : NULL;
  PFN_vkVoidFunction mine = ours(name);
  return theirs && mine ? mine : theirs;
}

/* The loader's link to what lies below this layer; each layer moves it on by one. */
#define LINK(type, kind, info)                                                                                      \
  const type *link = (info)->pNext;                                                                                 \
  while (link && !(link->sType == kind && link->function == VK_LAYER_LINK_INFO)) link = (const type *)link->pNext;  \
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;                                                                 \
  PFN_vkGetInstanceProcAddr below = link->u.pLayerInfo->pfnNextGetInstanceProcAddr

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator, VkInstance *instance) {
  LINK(VkLayerInstanceCreateInfo, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO, info);
  ((VkLayerInstanceCreateInfo *)link)->u.pLayerInfo = link->u.pLayerInfo->pNext;
  VkResult result = ((PFN_vkCreateInstance)below(NULL, "vkCreateInstance"))(info, allocator, instance);
  if (result == VK_SUCCESS) next.of_instance = below, next.instance = *instance;
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice gpu, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *allocator,
                                                    VkDevice *device) {
  LINK(VkLayerDeviceCreateInfo, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO, info);
  next.of_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  ((VkLayerDeviceCreateInfo *)link)->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const char **extensions = zeros(info->enabledExtensionCount + 1, sizeof *extensions);
  memcpy(extensions, info->ppEnabledExtensionNames, info->enabledExtensionCount * sizeof *extensions);
  extensions[info->enabledExtensionCount] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR reports = {
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, (void *)info->pNext, VK_TRUE};
  VkDeviceCreateInfo asked = *info;
  asked.pNext = &reports;
  asked.enabledExtensionCount++;
  asked.ppEnabledExtensionNames = extensions;
  VkResult result = ((PFN_vkCreateDevice)below(next.instance, "vkCreateDevice"))(gpu, &asked, allocator, device);
  free(extensions);
  if (result != VK_SUCCESS) return result;
  next.compile = (PFN_vkCreateComputePipelines)next.of_device(*device, "vkCreateComputePipelines");
  next.executables = (PFN_vkGetPipelineExecutablePropertiesKHR)next.of_device(*device, "vkGetPipelineExecutablePropertiesKHR");
  next.statistics = (PFN_vkGetPipelineExecutableStatisticsKHR)next.of_device(*device, "vkGetPipelineExecutableStatisticsKHR");
  next.listings = (PFN_vkGetPipelineExecutableInternalRepresentationsKHR)next.of_device(*device, "vkGetPipelineExecutableInternalRepresentationsKHR");
  return result;
}

static PFN_vkVoidFunction of_instance(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)of_instance;
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
  if (!strcmp(name, "vkCreateDevice")) return (PFN_vkVoidFunction)create_device;
  PFN_vkVoidFunction mine = ours(name);
  return mine ? mine : next.of_instance ? next.of_instance(instance, name) : NULL;
}

__attribute__((visibility("default"))) VkResult vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *loader) {
  loader->loaderLayerInterfaceVersion = 2;
  loader->pfnGetInstanceProcAddr = of_instance;
  loader->pfnGetDeviceProcAddr = of_device;
  loader->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
